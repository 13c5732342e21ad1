"""Checks convolutions and dense blocks, and their gradients, against definitions."""

import re
from functools import partial
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segdiff_jax.models.ops import conv, dense_block
from segdiff_jax.models.ops.conv import conv2d
from segdiff_jax.models.ops.dense_block_reference import last_layer_reference, leaky_relu
from segdiff_jax.models.ops.winograd_conv import (
    input_grad_pays,
    kernel_grad_pays,
    split_in_chunks,
    winograd_grads,
    winograd_kernel_grad,
)

# Of the largest value: turning tiles into planes and back multiplies the rounding of float32. Up to
# 9.4e-6 was seen, and 2.1e-5 where groups are summed.
PLANES = 5e-5


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def by_definition(x, dy):
    """Computes the gradient in the kernel as sums over all pixels, in float64."""
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    return np.einsum("bhwcij,bhwd->ijcd", windows, np.asarray(dy, np.float64))


@pytest.mark.parametrize(
    "shape, outputs, grouped",
    [
        ((2, 12, 8, 3), 5, False),
        ((1, 4, 4, 1), 1, False),
        ((3, 32, 36, 8), 4, False),
        ((8, 64, 64, 2), 3, True),
        ((6, 64, 64, 2), 3, False),  # no whole number of groups
        ((3, 128, 136, 2), 1, True),  # of one image each
    ],
)
def test_a_kernel_gradient_by_winograd_is_that_of_the_definition(shape, outputs, grouped):
    x, dy = normal(0, *shape), normal(1, *shape[:3], outputs)
    assert ("scan" in str(jax.make_jaxpr(winograd_kernel_grad)(x, dy))) == grouped
    want = by_definition(x, dy)
    # the sum over more pixels is no larger in proportion
    near = (2 if grouped else 1) * PLANES * np.abs(want).max()
    np.testing.assert_allclose(winograd_kernel_grad(x, dy), want, rtol=0, atol=near)


@pytest.mark.parametrize("images", [1, 3, 8])
def test_the_gradient_in_the_input_is_the_convolution_with_the_flipped_kernel(images):
    x, kernel, dy = (
        normal(0, images, 64, 64, 2),
        normal(1, 3, 3, 2, 3),
        normal(2, images, 64, 64, 3),
    )
    dx, dkernel = winograd_grads(x, kernel, dy)
    padded = np.pad(np.asarray(dy, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    want = np.einsum("bhwdij,ijcd->bhwc", windows, np.asarray(kernel, np.float64)[::-1, ::-1])
    np.testing.assert_allclose(dx, want, rtol=0, atol=PLANES * np.abs(want).max())
    alone = winograd_kernel_grad(x, dy)
    np.testing.assert_allclose(dkernel, alone, rtol=0, atol=1e-6 * np.abs(alone).max())


def by_jax(x, kernel, padding=((1, 1), (1, 1)), stride=1):
    """Computes the convolution of which jax derives the gradients."""
    strides, layout = (stride, stride), ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)


def gradients(convolve, x, kernel, weight, mapped=False):
    """Computes both gradients of a weighted sum of the results."""

    def loss(x, kernel):
        if not mapped:
            return (convolve(x, kernel) * weight).sum()
        each = jax.vmap(lambda one: convolve(one[None], kernel)[0])(x)
        return (each * weight).sum()

    return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)


@pytest.fixture
def called(monkeypatch):
    """Records the names of the Winograd gradients that are computed, one for each call."""
    calls = []

    def count(name):
        original = getattr(conv, name)
        monkeypatch.setattr(conv, name, lambda *a: calls.append(name) or original(*a))

    count("winograd_kernel_grad")
    count("winograd_grads")
    return calls


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("shape", "outputs", "name"),
    [
        ((2, 32, 32, 32), 64, "winograd_kernel_grad"),
        ((2, 16, 16, 64), 32, "winograd_kernel_grad"),
        ((8, 32, 16, 32), 32, "winograd_kernel_grad"),
        ((2, 64, 64, 32), 40, "winograd_grads"),
        ((1, 64, 128, 40), 32, "winograd_grads"),
    ],
)
def test_both_gradients_of_a_convolution_are_those_that_jax_derives(
    shape, outputs, name, mapped, called
):
    x, kernel = normal(0, *shape), normal(1, 3, 3, shape[-1], outputs)
    weight = normal(2, *shape[:3], outputs)
    assert kernel_grad_pays(x, outputs)
    ours, theirs = (gradients(f, x, kernel, weight, mapped) for f in (conv2d, by_jax))
    assert called == [name]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=PLANES * np.abs(other).max())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (3, 2)])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((1, 0), (0, 1))])
@pytest.mark.parametrize("sides", [(8, 8), (7, 10)])
def test_gradients_in_the_layout_of_the_cpu_are_those_that_jax_derives(
    stride, size, padding, sides, called
):
    x, kernel = normal(0, 3, *sides, 4), normal(1, *size, 4, 5)
    convolutions = [partial(f, padding=padding, stride=stride) for f in (conv2d, by_jax)]
    weight = normal(2, *convolutions[1](x, kernel).shape)
    ours, theirs = (gradients(f, x, kernel, weight) for f in convolutions)
    assert not called
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


def test_a_loop_contains_no_convolution_of_another_layout():
    """XLA's CPU compiler rewrites slow layouts outside of loops only."""
    x, kernel = normal(0, 2, 8, 8, 4), normal(1, 3, 3, 4, 4)

    def repeated(convolve, x, kernel):
        again = jax.lax.scan(lambda h, _: (convolve(h, kernel), None), x, None, 3)
        return again[0].sum()

    def layouts(convolve):
        program = jax.jit(jax.grad(partial(repeated, convolve), (0, 1))).lower(x, kernel)
        return set(re.findall(r"dim_labels=(\S+?),? ", program.compile().as_text()))

    assert layouts(conv2d) == {"b01f_01io->b01f"}
    assert layouts(by_jax) > {"b01f_01io->b01f"}  # else the gradients need not be written out


@pytest.mark.parametrize(
    "x, outputs",
    [
        (normal(0, 1, 34, 32, 32), 64),  # not a whole number of tiles
        (normal(0, 3, 8, 8, 32), 64),  # too few tiles
        (normal(0, 1, 32, 32, 3), 64),
        (normal(0, 8, 64, 64, 32), 16),
        (normal(0, 1, 32, 32, 32).astype(jnp.bfloat16), 64),
    ],
)
def test_maps_that_do_not_suit_winograd_are_convolved(x, outputs, called):
    assert not kernel_grad_pays(x, outputs)
    kernel = normal(1, 3, 3, x.shape[-1], outputs).astype(x.dtype)
    jax.eval_shape(jax.grad(lambda *of: conv2d(*of).sum(), (0, 1)), x, kernel)
    assert not called


@pytest.mark.parametrize("shape, padding, stride", [((1, 1), 0, 1), ((3, 3), 0, 1), ((3, 3), 1, 2)])
def test_only_convolutions_that_keep_the_size_use_winograd(shape, padding, stride, called):
    x, kernel = normal(0, 1, 32, 32, 32), normal(1, *shape, 32, 64)
    pads = ((padding, padding), (padding, padding))
    assert kernel_grad_pays(x, 64)
    jax.eval_shape(jax.grad(lambda *of: conv2d(*of, pads, stride).sum(), (0, 1)), x, kernel)
    assert not called


def dense_weights(features, growth):
    widths = [growth] * 4 + [features]
    return [
        (0.1 * normal(i, 3, 3, features + growth * i, width), normal(10 + i, width))
        for i, width in enumerate(widths)
    ]


@jax.jit
def nearest_bend(weights, x):
    """Returns the least distance of an inner layer from the bend of its leaky ReLU, in sigmas."""
    maps, nearest = x, jnp.inf
    for kernel, bias in weights[:-1]:
        y = conv2d(maps, kernel) + bias
        nearest = jnp.minimum(nearest, jnp.abs(y).min() / y.std())
        maps = jnp.concatenate([maps, leaky_relu(y)], axis=-1)
    return nearest


def maps_for(weights, *shape):
    """Returns maps at which rounding cannot move a leaky ReLU to its other slope."""
    drawn = (normal(seed, *shape) for seed in count(20))
    return next(x for x in drawn if nearest_bend(weights, x) > 8e-5)  # four times what was seen


def assert_same_gradients(ours, theirs, weights, x):
    """Checks values and gradients of a function of weights and x against another."""
    weight = normal(21, *x.shape)

    def loss(form, weights, x):
        return (form(weights, x) * weight).sum()

    one, other = (jax.value_and_grad(loss, (1, 2))(form, weights, x) for form in (ours, theirs))
    for found, true in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(found, true, rtol=0, atol=PLANES * np.abs(true).max())


@pytest.mark.parametrize("images, side, groups", [(1, 32, 1), (1, 34, 1), (6, 32, 1), (8, 32, 2)])
def test_a_dense_block_by_winograd_has_the_gradients_of_the_reference(images, side, groups):
    weights = dense_weights(32, 2)
    x = maps_for(weights, images, side, side, 32)
    assert kernel_grad_pays(x, 4 * 2 + 32) == (side == 32)
    assert len(split_in_chunks(x)) == groups
    assert_same_gradients(dense_block.last_layer_winograd, last_layer_reference, weights, x)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("features, growth", [(8, 4), (6, 9)])
def test_a_wide_dense_block_has_the_gradients_of_the_reference(
    backend, features, growth, monkeypatch
):
    weights = dense_weights(features, growth)
    x = maps_for(weights, 2, 8, 7, features)
    plain = partial(dense_block.dense_block, "concat")
    true = jax.jit(plain)(weights, x)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    ours = partial(dense_block.dense_block, "spread")
    np.testing.assert_allclose(ours(weights, x), true, rtol=0, atol=1e-5)
    assert_same_gradients(ours, plain, weights, x)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_a_bias_has_the_sum_over_pixels_as_its_gradient(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    y, bias, dy = normal(0, 2, 5, 3, 4), normal(1, 4), normal(2, 2, 5, 3, 4)
    sums, pull = jax.vjp(conv.add_bias, y, bias)
    np.testing.assert_array_equal(sums, y + bias)
    np.testing.assert_array_equal(pull(dy)[0], dy)
    np.testing.assert_allclose(pull(dy)[1], np.asarray(dy, np.float64).sum((0, 1, 2)), atol=1e-5)


def test_only_large_maps_have_an_input_gradient_by_winograd():
    assert input_grad_pays(normal(0, 1, 64, 64, 32), 32)
    assert not input_grad_pays(normal(0, 4, 32, 64, 32), 32)
    assert not input_grad_pays(normal(0, 1, 64, 64, 32), 16)


@pytest.mark.parametrize("sides", [(16, 8), (5, 7)])  # a whole number of groups of pixels, or not
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_1x1_convolution_is_a_matrix_product_with_the_same_gradients(dtype, sides):
    keys = jax.random.split(jax.random.key(4), 3)
    x = jax.random.normal(keys[0], (2, *sides, 6)).astype(dtype)
    kernel = jax.random.normal(keys[1], (1, 1, 6, 4)).astype(dtype)
    dy = jax.random.normal(keys[2], (2, *sides, 4)).astype(dtype)
    pads = ((0, 0), (0, 0))
    plain = jax.vjp(lambda *of: by_jax(*of, pads), x, kernel)
    product = jax.vjp(lambda *of: conv2d(*of, pads), x, kernel)
    pairs = zip((plain[0], *plain[1](dy)), (product[0], *product[1](dy)), strict=True)
    for expected, found in pairs:
        assert found.dtype == expected.dtype == dtype
        rtol, atol = (1e-5, 1e-5) if dtype == jnp.float32 else (0.02, 0.15)
        np.testing.assert_allclose(found.astype("f4"), expected.astype("f4"), rtol, atol)
