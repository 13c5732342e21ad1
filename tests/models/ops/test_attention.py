"""Attention and its written gradient, against the definition."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segdiff_jax.models.ops.attention import attended


def defined(qkv, heads):
    """Of each head: the values, by the softmax of query times key over the root of the depth."""
    depth = qkv.shape[2] // 3 // heads
    found = []
    for head in range(heads):
        q, k, v = (qkv[:, :, (3 * head + i) * depth : (3 * head + i + 1) * depth] for i in range(3))
        weights = jnp.exp(q @ k.swapaxes(1, 2) / depth**0.5)
        found.append(weights / weights.sum(-1, keepdims=True) @ v)
    return jnp.concatenate(found, -1)


@pytest.mark.parametrize("heads, depth, length", [(1, 5, 7), (2, 4, 16), (4, 16, 64)])
def test_attention_and_its_written_gradient_are_those_of_the_definition(heads, depth, length):
    random = np.random.default_rng(0)
    qkv = random.normal(0, 1.5, (2, length, 3 * heads * depth)).astype(np.float32)
    dh = random.normal(size=(2, length, heads * depth)).astype(np.float32)
    with jax.enable_x64(True):
        truth, pull_truth = jax.vjp(lambda x: defined(x, heads), jnp.asarray(qkv, jnp.float64))
        gradient = pull_truth(jnp.asarray(dh, jnp.float64))[0]
    h, pull = jax.vjp(lambda x: attended(x, heads), jnp.asarray(qkv))
    np.testing.assert_allclose(h, truth, atol=1e-5)
    np.testing.assert_allclose(pull(jnp.asarray(dh))[0], gradient, atol=2e-5)


def test_gradients_of_attention_have_the_precision_of_what_is_attended():
    qkv = jax.random.normal(jax.random.key(0), (1, 16, 24))
    gradients = [
        jax.grad(lambda x: attended(x, 2).astype(jnp.float32).sum())(qkv.astype(dtype))
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    assert gradients[1].dtype == jnp.bfloat16
    largest = np.abs(gradients[0]).max()
    np.testing.assert_allclose(gradients[1].astype(jnp.float32), gradients[0], atol=largest / 20)


def test_large_matrices_of_attentions_gradient_are_not_turned():
    """XLA's CPU library takes only products whose first factor is read along its rows."""
    gradient = jax.jit(jax.grad(lambda x: jnp.square(attended(x, 2)).sum()))
    text = gradient.lower(jnp.ones((2, 64, 24))).compile().as_text()
    products = re.findall(r" dot\(.*?lhs_contracting_dims=\{(\d)\}", text)
    assert len(products) == 6 and set(products) == {"3"}
