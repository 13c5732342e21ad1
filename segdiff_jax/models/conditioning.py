"""F, the mask encoder, and how it meets the image's features G(I).

Every conditioning maps (x_t [B, H, W, 1], features [B or 1, H, W, c]) to the stem [B, H, W, C] that
enters the U-Net.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.layers import Conv, Dtype


class Sum(nn.Module):
    """F(x_t) + G(I), the paper's (eq. 17)."""

    channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_t: jax.Array, features: jax.Array) -> jax.Array:
        """x_t [B, H, W, 1], features [B or 1, H, W, channels] -> [B, H, W, channels]."""
        return Conv(self.channels, dtype=self.dtype, name="F")(x_t) + features
