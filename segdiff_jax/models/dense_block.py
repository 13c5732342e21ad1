"""The dense block of G: five convolutions, each of all maps before it, written in three ways.

All three have the same parameters and the same result but for rounding. Which is fastest depends on
the machine (docs/performance.md has the figures):

  concat  the maps are joined and convolved: one wide convolution a layer, but every layer copies
          all maps before it
  parts   each map is convolved with its own slice of the kernel, and the results are added: nothing
          is copied, 15 narrower convolutions instead of 5; the fastest on CPU
  spread  each map is convolved once, into all later layers: 5 convolutions of 192, 160, ... 64
          output channels instead of 32, which suits matrix units better; slow backward on CPU
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.layers import ConvWeights, Dtype, convolve

leaky = partial(nn.leaky_relu, negative_slope=0.2)
RESIDUAL = 0.2  # scale of every inner residual

Weights = list[tuple[jax.Array, jax.Array]]  # kernel [3, 3, in, out] and bias [out] of each layer


class DenseBlock(nn.Module):
    """Five convolutions, each of all that came before it; 0.2 times the last is added to x."""

    growth: int
    dtype: Dtype = jnp.float32
    form: str = "concat"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        C, growth = x.shape[-1], self.growth
        widths = [*[growth] * 4, C]
        weights: Weights = []
        for i, width in enumerate(widths):
            kernel, bias = ConvWeights(C + i * growth, width, name=f"conv{i + 1}")()
            weights.append((kernel.astype(self.dtype), bias.astype(self.dtype)))
        x = x.astype(self.dtype)
        return RESIDUAL * FORMS[self.form](weights, x) + x


def concat(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns the last layer, [B, H, W, C]."""
    *inner, (kernel, bias) = weights
    maps = x
    for k, b in inner:
        maps = jnp.concatenate([maps, leaky(convolve(maps, k) + b)], axis=-1)
    return convolve(maps, kernel) + bias


def parts(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns the last layer, [B, H, W, C]."""
    maps: list[jax.Array] = []
    y = x
    for kernel, bias in weights:
        maps.append(y if not maps else leaky(y))
        y, first = bias, 0
        for m in maps:
            last = first + m.shape[-1]
            y = convolve(m, kernel[:, :, first:last]) + y
            first = last
    return y


def spread(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns the last layer, [B, H, W, C]."""
    growth = weights[0][0].shape[-1]
    sums = jnp.concatenate([bias for _, bias in weights])  # of the layers to come, side by side
    y, first = x, 0
    for i in range(len(weights)):
        last = first + y.shape[-1]
        kernel = jnp.concatenate([k[:, :, first:last] for k, _ in weights[i:]], axis=-1)
        sums = convolve(y, kernel) + sums
        if i + 1 < len(weights):
            y, sums, first = leaky(sums[..., :growth]), sums[..., growth:], last
    return sums


FORMS: dict[str, Callable[[Weights, jax.Array], jax.Array]] = {
    "concat": concat,
    "parts": parts,
    "spread": spread,
}
