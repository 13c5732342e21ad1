"""Sums and means over pixels, groups of channels and images, as a norm needs them. NHWC."""

from typing import Any

import jax
import jax.numpy as jnp

Tree = Any  # of arrays

# Where one stands, XLA would compute a number of a channel anew for each pixel of each map that
# reads it: on a CPU a norm of groups of two to four channels took 2 to 6 times as long.
barrier = jax.lax.optimization_barrier


def group_mean(x: jax.Array, groups: int) -> jax.Array:
    """The mean over pixels and the channels of each group: [B, H, W, C] -> [B, 1, 1, C] float32."""
    return channel_means(pixel_sums(x), groups) / (x.shape[1] * x.shape[2])


def pixel_sums(x: jax.Array) -> jax.Array:
    """The sum over pixels: [B, H, W, C] -> [B, 1, 1, C].

    On a CPU over rows first, which are long: a loop over pixels of a few channels is slower.
    """
    if jax.default_backend() != "cpu":
        return x.sum((1, 2), keepdims=True)
    B, H, W, C = x.shape
    rows = x.reshape(B, H, W * C).sum(1)
    return rows.reshape(B, W, C).sum(1).reshape(B, 1, 1, C)


def channel_means(x: jax.Array, groups: int) -> jax.Array:
    """The mean over the channels of each group, in the place of each: [B, 1, 1, C] -> the same.

    By additions, which a compiler fuses: a reduction would be a program of XLA's CPU library, of
    which a network has hundreds, for two to four numbers each.
    """
    B, C = x.shape[0], x.shape[-1]
    if groups == C:
        return x
    n = C // groups
    means = sum_by_halves(x.reshape(B, groups, n)) / n
    return barrier(jnp.broadcast_to(means, (B, groups, n)).reshape(B, 1, 1, C))


def image_sum(x: jax.Array) -> jax.Array:
    """The sum over images: [B, .., C], of which only these two are longer than 1 -> [C]."""
    return sum_by_halves(x.reshape(len(x), -1).T)[:, 0]


def sum_by_halves(x: jax.Array) -> jax.Array:
    """The sum over a last axis, kept with length 1; the order depends on its length alone."""
    while (n := x.shape[-1]) > 1:
        half = (n + 1) // 2
        rest = jnp.pad(x[..., half:], [(0, 0)] * (x.ndim - 1) + [(0, 2 * half - n)])
        x = x[..., :half] + rest
    return x


def made_once(x: Tree) -> Tree:
    """Returns x, maps of which a CPU is to compute each by itself.

    XLA would compute it anew in each pass over the maps that reads it.
    """
    return barrier(x) if jax.default_backend() == "cpu" else x
