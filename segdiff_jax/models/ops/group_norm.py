"""Normalisation over groups of channels, and the SiLU that may follow it. NHWC.

Gradients are written out: derived step by step they are twice as many operations and passes over
the maps, and keep three times as much.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.ops.xla import materialize, optimization_barrier


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
    return optimization_barrier(jnp.broadcast_to(means, (B, groups, n)).reshape(B, 1, 1, C))


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


EPSILON = 1e-5  # PyTorch's, where linen has 1e-6


Dtype = Any  # jnp.float32 or jnp.bfloat16


@partial(jax.jit, static_argnums=(4, 5, 6))  # traced once for all norms of one shape
def normalised(
    x: jax.Array,
    shift: jax.Array | None,
    scale: jax.Array,
    bias: jax.Array,
    groups: int,
    silu: bool = False,
    dtype: Dtype = jnp.float32,
) -> jax.Array:
    """Returns y = (x - mean) / sqrt(variance + 1e-5) * scale + bias, both over (pixels, a group).

    What its gradient keeps is x, in x's own precision, and a number or two a channel.

    Args:
      x: [B, H, W, C].
      shift: [B or 1, C] float32, added to x first; it costs no pass over the maps. None: nothing.
      scale: [C] float32.
      bias: [C] float32.
      groups: of C / groups channels each.
      silu: y / (1 + exp(-y)) instead of y.
      dtype: of the result, which is computed in float32.

    Returns:
      [B, H, W, C].
    """
    return _normalised(x, shift, scale, bias, groups, silu, dtype)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _normalised(*given: Any) -> jax.Array:
    return _forward(*given)[0]


class Kept(NamedTuple):
    """What the gradient needs; all but x, shift, scale and bias are [B, 1, 1, C].

    Attributes:
      x, shift, scale, bias: as given.
      middle: mean of the group without the shift: what is taken from x.
      inverse: of the standard deviation.
      off: mean of the channel less that of its group, where there is a shift.
    """

    x: jax.Array
    shift: jax.Array | None
    scale: jax.Array
    bias: jax.Array
    middle: jax.Array
    inverse: jax.Array
    off: jax.Array | None


def _forward(
    x: jax.Array,
    shift: jax.Array | None,
    scale: jax.Array,
    bias: jax.Array,
    groups: int,
    silu: bool,
    dtype: Dtype,
) -> tuple[jax.Array, Kept]:
    # two passes: E[x^2] - E[x]^2 loses digits that the exactness tests look at
    middle, off = _middle(x, shift, groups)
    centred = x.astype(jnp.float32) - middle
    inverse = jax.lax.rsqrt(group_mean(jnp.square(centred), groups) + EPSILON)
    y = centred * optimization_barrier(inverse * scale) + bias
    y = (nn.silu(y) if silu else y).astype(dtype)
    return y, Kept(x, shift, scale, bias, middle, inverse, off)


def _middle(
    x: jax.Array, shift: jax.Array | None, groups: int
) -> tuple[jax.Array, jax.Array | None]:
    """Returns `middle` and `off` of what is kept."""
    if shift is None:
        return group_mean(x.astype(jnp.float32), groups), None
    shift = shift[:, None, None]  # [B or 1, 1, 1, C]
    means = pixel_sums(x.astype(jnp.float32)) / (x.shape[1] * x.shape[2]) + shift
    mean = channel_means(means, groups)
    return optimization_barrier((mean - shift, means - mean))


def _backward(
    groups: int, silu: bool, dtype: Dtype, kept: Kept, dy: jax.Array
) -> tuple[jax.Array, jax.Array | None, jax.Array, jax.Array]:
    x, _, scale, _, _, inverse, off = kept
    unit, gated = _gated(kept, silu, dy)
    # made first: XLA would sum the maps once more over images and pixels
    dbias, dscale = optimization_barrier(
        (pixel_sums(gated), pixel_sums(gated * unit))
    )  # [B, 1, 1, C]
    pixels = x.shape[1] * x.shape[2]
    # what a change of x does through the mean, and through the variance
    through = [channel_means(d * scale, groups) / pixels for d in (dbias, dscale)]
    gain, lost, slope = optimization_barrier(
        (inverse * scale, inverse * through[0], inverse * through[1])
    )
    if jax.default_backend() != "cpu":
        # computed again, unseen by the compiler, which would keep both as maps of float32
        x, dy = optimization_barrier((x, dy))
        unit, gated = _gated(kept._replace(x=x), silu, dy)
    dx = materialize((gated * gain - lost - unit * slope).astype(x.dtype))
    dshift = None
    if kept.shift is not None and off is not None:  # the sum of dx, without a pass over the maps
        dshift = (dbias * gain - pixels * (lost + off * inverse * slope))[:, 0, 0]
        dshift = dshift if len(kept.shift) > 1 else image_sum(dshift)[None]
    return dx, dshift, image_sum(dscale), image_sum(dbias)


def _gated(kept: Kept, silu: bool, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (x - mean) / sqrt(variance + 1e-5), and the gradient before the SiLU, float32."""
    unit = (kept.x.astype(jnp.float32) - kept.middle) * kept.inverse
    dy = dy.astype(jnp.float32)
    if not silu:
        return unit, dy
    # not as in `_forward`: a compiler would see it, and keep all gates from there to here
    y = unit * kept.scale + kept.bias
    gate = nn.sigmoid(y)
    return unit, materialize(dy * gate * (1 + y * (1 - gate)))


_normalised.defvjp(_forward, _backward)
