"""Attention of every pixel to every pixel. NHWC."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.layers import GroupNorm, Linear
from segdiff_jax.models.ops.attention import attended
from segdiff_jax.models.ops.group_norm import Dtype


class SelfAttention(nn.Module):
    """Attention of every pixel to every pixel, with a residual around it.

    The 3C channels of `qkv` are head-major: for each head its query, key and value in turn.
    """

    heads: int
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]; C must be a multiple of heads."""
        B, H, W, C = x.shape
        h = GroupNorm(self.groups, self.dtype, name="norm")(x).reshape(B, H * W, C)
        qkv = Linear(3 * C, dtype=self.dtype, name="qkv")(h)
        h = attended(qkv, self.heads)
        h = Linear(C, zero=True, dtype=self.dtype, name="out")(h)
        return x + h.reshape(B, H, W, C)
