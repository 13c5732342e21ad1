"""Checks self-attention and its gradients against the definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segdiff_jax.models.attention import SelfAttention

GROUPS = 2


def defined(params, x, heads):
    """Computes norm, qkv, attention head by head, output and residual, in the dtype of x."""
    B, H, W, C = x.shape
    grouped = x.reshape(B, H * W, GROUPS, C // GROUPS)
    centered = grouped - grouped.mean((1, 3), keepdims=True)
    h = centered / jnp.sqrt((centered**2).mean((1, 3), keepdims=True) + 1e-5)
    h = h.reshape(B, H * W, C) * params["norm"]["scale"] + params["norm"]["bias"]
    qkv = h @ params["qkv"]["dense"]["kernel"] + params["qkv"]["dense"]["bias"]
    depth, results = C // heads, []
    for head in range(heads):
        q, k, v = (qkv[:, :, (3 * head + i) * depth : (3 * head + i + 1) * depth] for i in range(3))
        weights = jnp.exp(q @ k.swapaxes(1, 2) / depth**0.5)
        results.append(weights / weights.sum(-1, keepdims=True) @ v)
    out = jnp.concatenate(results, -1) @ params["out"]["dense"]["kernel"]
    return x + (out + params["out"]["dense"]["bias"]).reshape(x.shape)


def operands(heads, depth, sides):
    """Returns parameters none of which is zero, x and a cotangent."""
    random = np.random.default_rng(0)
    x, dy = (random.normal(size=(2, *sides, heads * depth)).astype(np.float32) for _ in range(2))
    shapes = jax.eval_shape(SelfAttention(heads, GROUPS).init, jax.random.key(0), x)["params"]
    params = jax.tree.map(
        lambda leaf: (random.normal(size=leaf.shape) / leaf.shape[0] ** 0.5).astype(np.float32),
        shapes,
    )
    return params, x, dy


@pytest.mark.parametrize("heads, depth, sides", [(1, 6, (7, 1)), (2, 4, (4, 4)), (4, 16, (8, 8))])
def test_attention_and_its_gradients_are_those_of_the_definition(heads, depth, sides):
    params, x, dy = operands(heads, depth, sides)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, x, dy))
        truth, pull = jax.vjp(lambda *of: defined(*of, heads), *exact[:2])
        true_grads = pull(exact[2])
    layer = SelfAttention(heads, GROUPS)
    y, pull = jax.vjp(lambda params, x: layer.apply({"params": params}, x), params, x)
    pairs = zip(*map(jax.tree.leaves, ((y, *pull(dy)), (truth, *true_grads))), strict=True)
    for ours, true in pairs:
        # sums of at most 128 pixels in float32, through four products: some 1e-6 of the largest
        largest = max(np.abs(true).max(), 1.0)  # the gradient in the keys' bias is zero
        np.testing.assert_allclose(ours, true, rtol=0, atol=1e-5 * largest)


def test_attention_and_its_gradient_have_the_precision_of_their_input():
    params, x, _ = operands(2, 4, (4, 4))

    def gradient(dtype):
        layer = SelfAttention(2, GROUPS, dtype)

        def loss(x):
            y = layer.apply({"params": params}, x)
            assert y.dtype == dtype
            return jnp.sin(y.astype(jnp.float32)).sum()

        return jax.grad(loss)(jnp.asarray(x, dtype))

    exact, low = map(gradient, (jnp.float32, jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    largest = np.abs(exact).max()
    np.testing.assert_allclose(low.astype(jnp.float32), exact, atol=largest / 20)
