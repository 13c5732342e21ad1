"""Checks group normalisation with and without SiLU, and its gradient, against definitions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bounds import assert_within

from segdiff_jax.models.layers import GroupNorm
from segdiff_jax.models.ops import group_norm as ops
from segdiff_jax.models.ops.group_norm import EPSILON, group_norm_reference

random = np.random.default_rng(0)


def defined(x, scale, bias, groups, silu=False):
    """Computes group normalisation in float64 by its definition (arXiv 1803.08494)."""
    B, H, W, C = x.shape
    grouped = x.reshape(B, H * W, groups, C // groups)
    mean = grouped.mean((1, 3), keepdims=True)
    variance = ((grouped - mean) ** 2).mean((1, 3), keepdims=True)
    y = ((grouped - mean) / (variance + EPSILON) ** 0.5).reshape(x.shape) * scale + bias
    return y / (1 + np.exp(-y)) if silu else y


def gradients_by_differences(x, shift, scale, bias, groups, silu, dy):
    """Computes central differences in float64 of sum(dy * norm)."""
    found, h = [], 1e-6
    for which in range(4):
        values = [a.copy() for a in (x, shift, scale, bias)]
        gradient = np.empty_like(values[which])
        for index in np.ndindex(gradient.shape):
            sides = []
            for sign in (1, -1):
                x, shift, *rest = [a.copy() for a in values]
                (x, shift, *rest)[which][index] += sign * h
                sides.append((dy * defined(x + shift[:, None, None], *rest, groups, silu)).sum())
            gradient[index] = (sides[0] - sides[1]) / (2 * h)
        found.append(gradient)
    return found


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shifts", [0, 1, 2])
@pytest.mark.parametrize(("channels", "groups"), [(6, 1), (6, 2), (6, 6), (8, 4)])
def test_a_norm_and_its_gradient_are_those_of_the_definition(channels, groups, shifts, silu):
    x, dy = random.normal(1, 2, (2, 3, 4, channels)), random.normal(size=(2, 3, 4, channels))
    scale, bias = random.normal(1, 0.5, channels), random.normal(size=channels)
    shift = random.normal(0, 3, (max(shifts, 1), channels)) * (shifts > 0)  # 0: none is given
    single = [jnp.asarray(a, jnp.float32) for a in (x, shift, scale, bias)]
    if not shifts:
        single[1] = None
    y, pull = jax.vjp(lambda *arrays: ops.group_norm(*arrays, groups, silu), *single)
    truth = defined(x + shift[:, None, None], scale, bias, groups, silu)
    np.testing.assert_allclose(y, truth, rtol=0, atol=4e-6)  # up to 7e-7 was seen
    reference = group_norm_reference(*single, groups, silu)
    np.testing.assert_allclose(reference, truth, rtol=0, atol=4e-6)
    truth = gradients_by_differences(x, shift, scale, bias, groups, silu, dy)
    for ours, true in zip(pull(jnp.asarray(dy, jnp.float32)), truth, strict=True):
        if ours is not None:
            # up to 3e-6 was seen
            np.testing.assert_allclose(ours, true, rtol=0, atol=1.5e-5)


def test_a_gradient_that_recomputes_its_maps_is_the_same(monkeypatch):
    x, dy = (jnp.asarray(random.normal(size=(2, 4, 4, 8)), jnp.bfloat16) for _ in range(2))
    numbers = [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((2, 8), 8, 8)]
    found = []
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda name=backend: name)
        jax.clear_caches()
        _, pull = jax.vjp(lambda *of: ops.group_norm(*of, 2, True, jnp.bfloat16), x, *numbers)
        found.append(pull(dy))
    jax.clear_caches()
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(
            np.asarray(one, np.float32), np.asarray(other, np.float32), rtol=2**-7, atol=1e-5
        )


def test_norms_of_one_shape_are_traced_once():
    def two(x):
        for _ in range(2):
            x = ops.group_norm(x, None, jnp.ones(8), jnp.zeros(8), 2)
        return x.sum()

    equations = jax.make_jaxpr(two)(jnp.ones((1, 4, 4, 8))).jaxpr.eqns
    inner = [e.params["jaxpr"] for e in equations if e.params.get("name") == "group_norm_fused"]
    assert len(inner) == 2 and inner[0] is inner[1]


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_norm_computes_in_float32_and_returns_its_own_dtype(dtype, silu):
    x = jnp.asarray(np.random.default_rng(1).normal(100, 1, (1, 4, 4, 8)), jnp.float32)
    layer = GroupNorm(2, dtype, silu)
    variables = {"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}
    y = layer.apply(variables, x)
    truth = defined(np.asarray(x, np.float64), 1, 0, 2, silu)
    assert y.dtype == dtype
    # the largest rounding of a bfloat16 of 1 to 4 is 2^-7; that of the mean of x, 100, is 2^-18 in
    # float32, and a term of the sum that makes it is rounded as much: the deviation is 1
    assert_within(y, truth, 0 if dtype == jnp.float32 else 2**-7, 8 * 2**-18)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_sums_over_pixels_are_those_of_float64(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 12))
    want = np.asarray(x, np.float64).sum((1, 2), keepdims=True)
    np.testing.assert_allclose(ops.pixel_sum(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("silu", [False, True])
def test_the_residual_of_a_norms_gradient_is_its_input_in_the_inputs_precision(silu):
    x, scale = jnp.ones((1, 4, 4, 8), jnp.bfloat16), jnp.ones(8)
    y, pull = jax.vjp(lambda x: ops.group_norm(x, None, scale, scale, 2, silu), x)
    maps = [a for a in jax.tree.leaves(pull) if a.size == x.size]
    assert y.dtype == jnp.float32
    assert [a.dtype for a in maps] == [jnp.bfloat16]
    assert pull(y)[0].dtype == jnp.bfloat16


def loops_over_maps(x):
    """Returns the fused computations of a norm's compiled gradient that yield maps."""
    weight, scale = jnp.ones_like(x), jnp.ones(x.shape[-1])
    gradient = jax.grad(
        lambda *of: (ops.group_norm(of[0], None, *of[1:], 32, True) * weight).sum(), (0, 1, 2)
    )
    text = jax.jit(gradient).lower(x, scale, scale).compile().as_text()
    shape = ",".join(map(str, x.shape))
    bodies = re.findall(r"^%fused_computation.*?^}", text, re.M | re.S)
    return [body for body in bodies if re.search(rf"ROOT \S+ = f32\[{shape}\]", body)]


def test_a_pass_over_the_maps_does_not_recompute_the_mean_of_a_group_for_each_pixel(monkeypatch):
    x = jnp.ones((2, 16, 16, 128))  # four channels a group
    passes = loops_over_maps(x)
    assert len(passes) >= 3
    assert not any(" slice(" in body or " rsqrt(" in body for body in passes)
    jax.clear_caches()
    for name in ("materialize", "optimization_barrier"):
        monkeypatch.setattr(ops, name, lambda x: x)
    # otherwise the barriers are not needed
    assert any(" slice(" in body for body in loops_over_maps(x))
    jax.clear_caches()


def test_a_gradient_sums_each_map_once_and_then_over_images(monkeypatch):
    x, scale = jnp.ones((2, 16, 16, 64)), jnp.ones(64)

    def sums_over_images():
        """Counts sums of the compiled gradient that are over images and pixels at once."""
        gradient = jax.grad(
            lambda *of: ops.group_norm(of[0], None, *of[1:], 32, True).sum(), (0, 1, 2)
        )
        text = jax.jit(gradient).lower(x, scale, scale).compile().as_text()
        return len(re.findall(r"= f32\[64\]\S* reduce\(", text))

    assert sums_over_images() == 0
    jax.clear_caches()
    for name in ("materialize", "optimization_barrier"):
        monkeypatch.setattr(ops, name, lambda x: x)
    monkeypatch.setattr(ops, "pairwise_sum", lambda x: x.sum(-1, keepdims=True))
    assert sums_over_images() > 0  # otherwise the barriers are not needed
    jax.clear_caches()
