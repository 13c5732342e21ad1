"""Computes multi-head self-attention with its gradients."""

from functools import partial

import jax
import jax.numpy as jnp

from segdiff_jax.models.ops.xla import materialize


@partial(jax.jit, static_argnums=1)  # traced once for all attentions of one shape
def attended(qkv: jax.Array, heads: int) -> jax.Array:
    """The values, weighted by how queries meet keys: [B, L, 3C] -> [B, L, C], head-major both."""
    B, L, C = *qkv.shape[:2], qkv.shape[2] // 3
    qkv = qkv.reshape(B, L, heads, 3, C // heads)
    q, k, v = (jnp.swapaxes(qkv[:, :, :, i], 1, 2) for i in range(3))  # [B, heads, L, depth]
    scale = (C // heads) ** -0.25
    return jnp.swapaxes(_weighted(q * scale, k * scale, v), 1, 2).reshape(B, L, C)


@jax.custom_vjp
def _weighted(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q k') v, with gradients that are products of untransposed large matrices."""
    return _forward(q, k, v)[0]


def _forward(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    logits = jnp.einsum("bhld,bhmd->bhlm", q, k)
    weights = jax.nn.softmax(logits.astype(jnp.float32)).astype(v.dtype)
    h = jnp.einsum("bhlm,bhmd->bhld", weights, v)
    return h, (q, k, v, weights, h)


def _backward(kept: tuple[jax.Array, ...], dh: jax.Array) -> tuple[jax.Array, ...]:
    q, k, v, weights, h = kept
    dweights = jnp.einsum("bhld,bhmd->bhlm", dh, v).astype(jnp.float32)
    # the mean of a row of dweights, by its weights
    mean = jnp.sum(dh * h, -1, keepdims=True, dtype=jnp.float32)
    dlogits = materialize((weights * (dweights - mean)).astype(q.dtype))
    dq = jnp.einsum("bhlm,bhmd->bhld", dlogits, k)
    return dq, _turned(q, dlogits), _turned(dh, weights)


def _turned(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[B, heads, L, depth] and [B, heads, L, M] -> [B, heads, M, depth], the sum over L.

    A CPU is four times as fast where small matrices are turned, before and after, not a large one.
    """
    columns = materialize(jnp.swapaxes(rows, 2, 3))
    return jnp.swapaxes(materialize(jnp.einsum("bhdl,bhlm->bhdm", columns, weights)), 2, 3)


_weighted.defvjp(_forward, _backward)
