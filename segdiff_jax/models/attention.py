"""Attention between all pixels of a map. NHWC."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from segdiff_jax.models.layers import GroupNorm, Linear


class SelfAttention(nn.Module):
    """Multi-head self-attention between all pixels, with a residual connection around it.

    The 3C channels of `qkv` are head-major: for each head its query, key and value in turn. The
    softmax is computed in float32.
    """

    heads: int
    groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, C]; C must be a multiple of heads."""
        B, H, W, C = x.shape
        depth = C // self.heads
        h = GroupNorm(self.groups, self.dtype, name="norm")(x).reshape(B, H * W, C)
        qkv = Linear(3 * C, dtype=self.dtype, name="qkv")(h)
        q, k, v = jnp.moveaxis(qkv.reshape(B, H * W, self.heads, 3, depth), 3, 0)
        h = jax.nn.dot_product_attention(q, k, v, scale=depth**-0.5)
        h = Linear(C, zero=True, dtype=self.dtype, name="out")(h.reshape(B, H * W, C))
        return x + h.reshape(B, H, W, C)
