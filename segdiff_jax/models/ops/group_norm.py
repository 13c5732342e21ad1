"""Computes group normalisation (arXiv 1803.08494), with a shift before and SiLU after it. NHWC.

`group_norm_reference` is the definition. The gradient of the fast form is written by hand: derived
step by step it is twice as many operations and passes over the maps, and stores three times as much
between the forward and the backward pass.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from segdiff_jax.models.ops.switch import use_reference
from segdiff_jax.models.ops.xla import materialize, optimization_barrier

EPSILON = 1e-5  # PyTorch's, where linen has 1e-6


def group_norm_reference(
    x: jax.Array,
    shift: jax.Array | None,
    scale: jax.Array,
    bias: jax.Array,
    groups: int,
    silu: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Computes `group_norm` by its definition."""
    B, H, W, C = x.shape
    x = x.astype(jnp.float32) + (0 if shift is None else shift[:, None, None])
    x = x.reshape(B, H * W, groups, C // groups)
    mean, variance = x.mean((1, 3), keepdims=True), x.var((1, 3), keepdims=True)
    y = ((x - mean) / jnp.sqrt(variance + EPSILON)).reshape(B, H, W, C) * scale + bias
    return (jax.nn.silu(y) if silu else y).astype(dtype)


def group_norm(
    x: jax.Array,
    shift: jax.Array | None,
    scale: jax.Array,
    bias: jax.Array,
    groups: int,
    silu: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Computes y = (x - mean) / sqrt(variance + 1e-5) * scale + bias over (pixels, a group).

    The residuals of its gradient are x, in x's own precision, and two numbers a channel.

    Args:
      x: [B, H, W, C].
      shift: [B or 1, C] float32, added to x first without a pass over the maps; None: zero.
      scale: [C] float32.
      bias: [C] float32.
      groups: of C / groups channels each.
      silu: y / (1 + exp(-y)) instead of y.
      dtype: of the result, which is computed in float32.

    Returns:
      [B, H, W, C].
    """
    form = group_norm_reference if use_reference() else group_norm_fused
    return form(x, shift, scale, bias, groups, silu, dtype)


class Residuals(NamedTuple):
    """Holds what the gradient needs: the operands, and numbers of each channel [B, 1, 1, C]."""

    x: jax.Array
    shift: jax.Array | None
    scale: jax.Array
    bias: jax.Array
    mean: jax.Array  # of the group less the shift: what is subtracted from x
    rstd: jax.Array  # reciprocal of the standard deviation of the group
    channel_offset: jax.Array | None  # mean of the channel less that of its group; with a shift


@partial(jax.jit, static_argnums=(4, 5, 6))  # traced once for all norms of one shape
def group_norm_fused(*operands: Any) -> jax.Array:
    """Computes `group_norm` with a gradient written by hand; the same arguments, by position."""
    return _group_norm(*operands)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _group_norm(*operands: Any) -> jax.Array:
    return _forward(*operands)[0]


def _forward(
    x: jax.Array,
    shift: jax.Array | None,
    scale: jax.Array,
    bias: jax.Array,
    groups: int,
    silu: bool,
    dtype: DTypeLike,
) -> tuple[jax.Array, Residuals]:
    # two passes: E[x^2] - E[x]^2 cancels more digits than the tests of exactness allow
    mean, channel_offset = _means(x, shift, groups)
    centered = x.astype(jnp.float32) - mean
    rstd = jax.lax.rsqrt(group_mean(jnp.square(centered), groups) + EPSILON)
    y = centered * optimization_barrier(rstd * scale) + bias
    y = (jax.nn.silu(y) if silu else y).astype(dtype)
    return y, Residuals(x, shift, scale, bias, mean, rstd, channel_offset)


def _means(
    x: jax.Array, shift: jax.Array | None, groups: int
) -> tuple[jax.Array, jax.Array | None]:
    """Returns `mean` and `channel_offset` of the residuals."""
    if shift is None:
        return group_mean(x.astype(jnp.float32), groups), None
    shift = shift[:, None, None]  # [B or 1, 1, 1, C]
    channel_means = pixel_sum(x.astype(jnp.float32)) / (x.shape[1] * x.shape[2]) + shift
    mean = average_groups(channel_means, groups)
    return optimization_barrier((mean - shift, channel_means - mean))


def _backward(
    groups: int, silu: bool, dtype: DTypeLike, residuals: Residuals, dy: jax.Array
) -> tuple[jax.Array, jax.Array | None, jax.Array, jax.Array]:
    x, shift, scale, _, _, rstd, channel_offset = residuals
    x_hat, dy_pre_silu = _before_silu(residuals, silu, dy)
    # materialized: XLA would sum the maps a second time over images and pixels
    sums = pixel_sum(dy_pre_silu), pixel_sum(dy_pre_silu * x_hat)
    d_bias, d_scale = optimization_barrier(sums)  # [B, 1, 1, C]
    pixels = x.shape[1] * x.shape[2]
    # the terms of dx by the normalised value, by the mean, and by the variance
    by_mean, by_var = (average_groups(d * scale, groups) / pixels for d in (d_bias, d_scale))
    d_gain, d_mean, d_var = optimization_barrier((rstd * scale, rstd * by_mean, rstd * by_var))
    if jax.default_backend() != "cpu":
        # recomputed behind a barrier; the compiler would store both as maps of float32
        x, dy = optimization_barrier((x, dy))
        x_hat, dy_pre_silu = _before_silu(residuals._replace(x=x), silu, dy)
    dx = materialize((dy_pre_silu * d_gain - d_mean - x_hat * d_var).astype(x.dtype))
    d_shift = None
    if shift is not None and channel_offset is not None:
        # the sum of dx over pixels, without a pass over the maps
        d_shift = (d_bias * d_gain - pixels * (d_mean + channel_offset * rstd * d_var))[:, 0, 0]
        d_shift = d_shift if len(shift) > 1 else batch_sum(d_shift)[None]
    return dx, d_shift, batch_sum(d_scale), batch_sum(d_bias)


def _before_silu(residuals: Residuals, silu: bool, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (x - mean) / sqrt(variance + 1e-5), and the gradient before the SiLU, float32."""
    x_hat = (residuals.x.astype(jnp.float32) - residuals.mean) * residuals.rstd
    dy = dy.astype(jnp.float32)
    if not silu:
        return x_hat, dy
    # unlike in `_forward`: XLA would recognise the same expression, and store all gates in between
    y = x_hat * residuals.scale + residuals.bias
    gate = jax.nn.sigmoid(y)
    return x_hat, materialize(dy * gate * (1 + y * (1 - gate)))


_group_norm.defvjp(_forward, _backward)


def group_mean(x: jax.Array, groups: int) -> jax.Array:
    """Averages over pixels and the channels of each group: [B, H, W, C] -> [B, 1, 1, C] float32."""
    return average_groups(pixel_sum(x), groups) / (x.shape[1] * x.shape[2])


def pixel_sum(x: jax.Array) -> jax.Array:
    """Sums over pixels: [B, H, W, C] -> [B, 1, 1, C].

    On a CPU over rows first, which are long: a loop over pixels of a few channels is slower.
    """
    if jax.default_backend() != "cpu":
        return x.sum((1, 2), keepdims=True)
    B, H, W, C = x.shape
    return x.reshape(B, H, W * C).sum(1).reshape(B, W, C).sum(1).reshape(B, 1, 1, C)


def average_groups(x: jax.Array, groups: int) -> jax.Array:
    """Replaces each channel by the mean of its group: [B, 1, 1, C] -> the same.

    By additions, which XLA fuses: a reduction would be a call of XLA's CPU library, of which a
    network has hundreds, for two to four numbers each.
    """
    B, C = x.shape[0], x.shape[-1]
    if (n := C // groups) == 1:
        return x
    means = pairwise_sum(x.reshape(B, groups, n)) / n
    return optimization_barrier(jnp.broadcast_to(means, (B, groups, n)).reshape(B, 1, 1, C))


def batch_sum(x: jax.Array) -> jax.Array:
    """Sums over images: [B, C], with any axes of length 1 between -> [C]."""
    return pairwise_sum(x.reshape(len(x), -1).T)[:, 0]


def pairwise_sum(x: jax.Array) -> jax.Array:
    """Sums over the last axis, kept with length 1, in an order that depends on its length alone."""
    while (n := x.shape[-1]) > 1:
        half = (n + 1) // 2
        rest = jnp.pad(x[..., half:], [(0, 0)] * (x.ndim - 1) + [(0, 2 * half - n)])
        x = x[..., :half] + rest
    return x
