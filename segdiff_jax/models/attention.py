"""Attention of every pixel to every pixel. NHWC."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.layers import Dtype, GroupNorm, Linear


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


@partial(jax.jit, static_argnums=1)  # traced once for all attentions of one shape
def attended(qkv: jax.Array, heads: int) -> jax.Array:
    """The values, weighted by how queries meet keys: [B, L, 3C] -> [B, L, C], head-major both."""
    B, L, C = *qkv.shape[:2], qkv.shape[2] // 3
    qkv = qkv.reshape(B, L, heads, 3, C // heads)
    q, k, v = (jnp.swapaxes(qkv[:, :, :, i], 1, 2) for i in range(3))  # [B, heads, L, depth]
    scale = (C // heads) ** -0.25
    logits = jnp.einsum("bhld,bhmd->bhlm", q * scale, k * scale)
    weights = jax.nn.softmax(logits.astype(jnp.float32)).astype(qkv.dtype)
    h = jnp.einsum("bhlm,bhmd->bhld", weights, v)
    return jnp.swapaxes(h, 1, 2).reshape(B, L, C)
