"""Doubling a map: each pixel four times, then a 3 x 3 convolution; in two ways.

`plain` is the definition, and faster on a GPU. `folded` does not compute all of it: three
neighbours of a doubled row hold only two different pixels, so the kernel's columns that meet the
same pixel are added first. Each of the four places in a pixel has a 2 x 2 kernel of its own, and 16
products a pixel do the work of 36. The same result but for rounding.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.convolution import convolve
from segdiff_jax.models.layers import ConvWeights, Dtype
from segdiff_jax.models.plain_convolution import interleaved


class Upsample(nn.Module):
    """Doubles height and width by repeating pixels, then a 3 x 3 convolution."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, 2H, 2W, C]."""
        C = x.shape[-1]
        kernel, bias = ConvWeights(C, C, name="conv")()
        double = plain if jax.default_backend() == "gpu" else folded
        return double(x.astype(self.dtype), kernel) + bias.astype(self.dtype)


def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] with [3, 3, C, D] float32 -> [B, 2H, 2W, D]."""
    doubled = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return convolve(doubled, kernel.astype(x.dtype))


def folded(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] with [3, 3, C, D] float32 -> [B, 2H, 2W, D]."""
    places = [
        [
            convolve(x, small.astype(x.dtype), ((1 - i, i), (1 - j, j)))
            for j, small in enumerate(_folded(tall, axis=1))
        ]
        for i, tall in enumerate(_folded(kernel, axis=0))
    ]
    return interleaved(places)


def _folded(kernel: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Returns what the first and the second of a doubled pixel see: three taps become two."""
    before, here, after = jnp.split(kernel, 3, axis)
    first = jnp.concatenate([before, here + after], axis)  # of the pixel before, and its own
    second = jnp.concatenate([before + here, after], axis)  # of its own, and the one after
    return first, second
