"""The layers with gradients or parameters of their own making, against definitions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamNotFoundError, ScopeParamShapeError

from segdiff_jax.models import layers
from segdiff_jax.models.initial import Constant, parameter
from segdiff_jax.models.layers import EPSILON, GroupNorm, normalised

random = np.random.default_rng(0)


def defined(x, scale, bias, groups):
    """Group normalisation in float64, as its authors write it down (arXiv 1803.08494)."""
    B, H, W, C = x.shape
    grouped = x.reshape(B, H * W, groups, C // groups)
    mean = grouped.mean((1, 3), keepdims=True)
    variance = ((grouped - mean) ** 2).mean((1, 3), keepdims=True)
    return ((grouped - mean) / (variance + EPSILON) ** 0.5).reshape(x.shape) * scale + bias


def gradients_by_differences(x, scale, bias, groups, dy):
    """Central differences in float64 of sum(dy * norm)."""
    found, h = [], 1e-6
    for which in range(3):
        values = [a.copy() for a in (x, scale, bias)]
        gradient = np.empty_like(values[which])
        for index in np.ndindex(gradient.shape):
            sides = []
            for sign in (1, -1):
                changed = [a.copy() for a in values]
                changed[which][index] += sign * h
                sides.append((dy * defined(*changed, groups)).sum())
            gradient[index] = (sides[0] - sides[1]) / (2 * h)
        found.append(gradient)
    return found


@pytest.mark.parametrize(("channels", "groups"), [(6, 1), (6, 2), (6, 6), (8, 4)])
def test_a_norm_and_its_written_gradient_are_those_of_the_definition(channels, groups):
    x, dy = random.normal(1, 2, (2, 3, 4, channels)), random.normal(size=(2, 3, 4, channels))
    scale, bias = random.normal(1, 0.5, channels), random.normal(size=channels)
    single = [jnp.asarray(a, jnp.float32) for a in (x, scale, bias)]
    y, pull = jax.vjp(lambda *arrays: normalised(*arrays, groups), *single)
    np.testing.assert_allclose(y, defined(x, scale, bias, groups), atol=2e-6)
    truth = gradients_by_differences(x, scale, bias, groups, dy)
    for ours, true in zip(pull(jnp.asarray(dy, jnp.float32)), truth, strict=True):
        np.testing.assert_allclose(ours, true, atol=1e-5)


def test_norms_of_one_shape_are_traced_once():
    def two(x):
        for _ in range(2):
            x = normalised(x, jnp.ones(8), jnp.zeros(8), 2)
        return x.sum()

    equations = jax.make_jaxpr(two)(jnp.ones((1, 4, 4, 8))).jaxpr.eqns
    inner = [e.params["jaxpr"] for e in equations if e.params.get("name") == "normalised"]
    assert len(inner) == 2 and inner[0] is inner[1]


class One(nn.Module):
    """A single parameter."""

    @nn.compact
    def __call__(self):
        return parameter(self, "weight", Constant(2.0), (3,))


def test_a_parameter_is_the_array_that_is_given_and_no_other_will_do():
    module, key = One(), jax.random.key(0)
    given = jnp.arange(3.0)
    assert module.apply({"params": {"weight": given}}) is given
    np.testing.assert_array_equal(module.init(key)["params"]["weight"], [2, 2, 2])
    with pytest.raises(ScopeParamShapeError, match="weight"):
        module.apply({"params": {"weight": jnp.zeros(4)}})
    with pytest.raises(ScopeParamNotFoundError, match="weight"):
        module.apply({"params": {"other": given}})


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_norm_computes_in_float32_and_answers_in_its_own_dtype(dtype):
    x = jnp.asarray(random.normal(100, 1, (1, 4, 4, 8)), jnp.float32)
    norm = GroupNorm(2, dtype)
    variables = {"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}
    y = norm.apply(variables, x)
    truth = defined(np.asarray(x, np.float64), 1, 0, 2)
    assert y.dtype == dtype
    # the largest rounding of a bfloat16 of 1 to 4 is 2^-7
    np.testing.assert_allclose(
        np.asarray(y, np.float64), truth, atol=1e-5 if dtype == jnp.float32 else 2**-7
    )


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_sums_over_pixels_are_those_of_float64(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 12))
    want = np.asarray(x, np.float64).sum((1, 2), keepdims=True)
    np.testing.assert_allclose(layers.pixel_sums(x), want, rtol=1e-5, atol=1e-5)


def test_what_a_norms_gradient_keeps_of_its_input_has_the_inputs_precision():
    x, scale = jnp.ones((1, 4, 4, 8), jnp.bfloat16), jnp.ones(8)
    y, kept = layers._normalised_forward(x, scale, scale, 2)
    assert y.dtype == jnp.float32
    assert kept[0].dtype == jnp.bfloat16
    gradient = jax.grad(lambda x: layers.normalised(x, scale, scale, 2).sum())(x)
    assert gradient.dtype == jnp.bfloat16
