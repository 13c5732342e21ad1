"""Normalisation over groups of channels, and the SiLU that may follow it. NHWC.

Gradients are written out: derived step by step they are twice as many operations and passes over
the maps, and keep three times as much.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.initial import Constant, parameter

EPSILON = 1e-5  # PyTorch's, where linen has 1e-6

Dtype = Any  # jnp.float32 or jnp.bfloat16
Tree = Any  # of arrays


class GroupNorm(nn.Module):
    """Normalisation over (pixels, channels of a group), in float32, epsilon 1e-5.

    With one channel a group it takes out each channel's mean, and with it an added time vector:
    such a block does not know t.

    Attributes:
      groups: so many; channels must be a multiple of them.
      dtype: of the result.
      silu: SiLU of what is normalised, also in float32.
    """

    groups: int
    dtype: Dtype = jnp.float32
    silu: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        C = x.shape[-1]
        scale = parameter(self, "scale", Constant(1.0), (C,))
        bias = parameter(self, "bias", Constant(0.0), (C,))
        return normalised(x, scale, bias, self.groups, self.silu).astype(self.dtype)


@partial(jax.jit, static_argnums=(3, 4))  # traced once for all norms of one shape
def normalised(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, silu: bool = False
) -> jax.Array:
    """Returns y = (x - mean) / sqrt(variance + 1e-5) * scale + bias, both over (pixels, a group).

    What its gradient keeps is x, in x's own precision, and a number or two a channel.

    Args:
      x: [B, H, W, C].
      scale: [C] float32.
      bias: [C] float32.
      groups: of C / groups channels each.
      silu: y / (1 + exp(-y)) instead of y.

    Returns:
      [B, H, W, C] float32.
    """
    return _normalised(x, scale, bias, groups, silu)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalised(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, silu: bool
) -> jax.Array:
    return _forward(x, scale, bias, groups, silu)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, silu: bool
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    # two passes: E[x^2] - E[x]^2 loses digits that the exactness tests look at
    mean = group_mean(x.astype(jnp.float32), groups)
    centred = x.astype(jnp.float32) - mean
    inverse = jax.lax.rsqrt(group_mean(jnp.square(centred), groups) + EPSILON)  # [B, 1, 1, C]
    y = centred * made_once(inverse * scale) + bias
    return nn.silu(y) if silu else y, (x, scale, bias, mean, inverse)


def _backward(
    groups: int, silu: bool, kept: tuple[jax.Array, ...], dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, bias, mean, inverse = kept
    centred = x.astype(jnp.float32) - mean
    unit = centred * inverse
    if silu:
        # not as in `_forward`: a compiler would see it, and keep all gates from there to here
        y = unit * scale + bias
        gate = nn.sigmoid(y)
        dy = made_once(dy * gate * (1 + y * (1 - gate)))
    # made first: XLA would sum the maps once more over images and pixels
    dbias, dscale = made_once((pixel_sums(dy), pixel_sums(dy * unit)))  # [B, 1, 1, C]
    pixels = x.shape[1] * x.shape[2]
    # what a change of x does through the mean, and through the variance
    through = [channel_means(d * scale, groups) / pixels for d in (dbias, dscale)]
    gain, shift, slope = made_once(
        (inverse * scale, inverse * through[0], jnp.square(inverse) * through[1])
    )
    dx = made_once((dy * gain - shift - centred * slope).astype(x.dtype))
    dscale, dbias = (sum_by_halves(d.reshape(len(d), -1).T)[:, 0] for d in (dscale, dbias))
    return dx, dscale, dbias


_normalised.defvjp(_forward, _backward)


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
    return made_once(jnp.broadcast_to(means, (B, groups, n)).reshape(B, 1, 1, C))


def sum_by_halves(x: jax.Array) -> jax.Array:
    """The sum over a last axis, kept with length 1; the order depends on its length alone."""
    while (n := x.shape[-1]) > 1:
        half = (n + 1) // 2
        rest = jnp.pad(x[..., half:], [(0, 0)] * (x.ndim - 1) + [(0, 2 * half - n)])
        x = x[..., :half] + rest
    return x


def made_once(x: Tree) -> Tree:
    """Returns x, arrays of which a CPU is to compute each by itself.

    XLA would compute it anew for each pixel of each map that reads it: a norm of groups of two to
    four channels took 2 to 6 times as long.
    """
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x
