"""Doubling a map: each pixel four times, then a 3 x 3 convolution; in two ways.

`plain` is the definition, and faster on a GPU. `folded` does not compute all of it: three
neighbours of a doubled row hold only two different pixels, so the kernel's columns that meet the
same pixel are added first. Each of the four places in a pixel has a 2 x 2 kernel of its own, and 16
products a pixel do the work of 36. The same result but for rounding.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.layers import ConvWeights
from segdiff_jax.models.ops.group_norm import Dtype
from segdiff_jax.models.ops.upsample import folded, plain


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
