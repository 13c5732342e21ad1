"""The gradient of a kernel with fewer products is the gradient of a kernel."""

import re
from functools import partial
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segdiff_jax.models.ops import conv, dense_block
from segdiff_jax.models.ops.conv import convolve, convolve_pixels
from segdiff_jax.models.ops.dense_params import leaky
from segdiff_jax.models.ops.winograd_conv import (
    both_gradients,
    kernel_gradient,
    split_in_chunks,
    suits_both,
    suits_winograd,
)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def by_definition(x, dy):
    """Sums over all pixels, in float64."""
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
def test_it_is_what_the_definition_says(shape, outputs, grouped):
    x, dy = normal(0, *shape), normal(1, *shape[:3], outputs)
    assert ("scan" in str(jax.make_jaxpr(kernel_gradient)(x, dy))) == grouped
    want = by_definition(x, dy)
    share = 2e-5 if grouped else 1e-5  # of more pixels, whose sum is no larger in proportion
    np.testing.assert_allclose(
        kernel_gradient(x, dy), want, rtol=0, atol=share * np.abs(want).max()
    )


@pytest.mark.parametrize("images", [1, 3, 8])
def test_the_gradient_in_the_input_is_the_convolution_with_the_turned_kernel(images):
    x, kernel, dy = (
        normal(0, images, 64, 64, 2),
        normal(1, 3, 3, 2, 3),
        normal(2, images, 64, 64, 3),
    )
    dx, dkernel = both_gradients(x, kernel, dy)
    padded = np.pad(np.asarray(dy, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    want = np.einsum("bhwdij,ijcd->bhwc", windows, np.asarray(kernel, np.float64)[::-1, ::-1])
    np.testing.assert_allclose(dx, want, rtol=0, atol=1e-5 * np.abs(want).max())
    alone = kernel_gradient(x, dy)
    np.testing.assert_allclose(dkernel, alone, rtol=0, atol=1e-6 * np.abs(alone).max())


def by_jax(x, kernel, padding=((1, 1), (1, 1)), stride=1):
    """The convolution of which jax derives the gradients."""
    strides, layout = (stride, stride), ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)


def gradients(convolve, x, kernel, weight, mapped=False):
    """Both of a weighted sum of the results."""

    def loss(x, kernel):
        if not mapped:
            return (convolve(x, kernel) * weight).sum()
        each = jax.vmap(lambda one: convolve(one[None], kernel)[0])(x)
        return (each * weight).sum()

    return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)


@pytest.fixture
def called(monkeypatch):
    """The names of what made gradients by planes, one for each call."""
    calls = []

    def count(name):
        original = getattr(conv, name)
        monkeypatch.setattr(conv, name, lambda *a: calls.append(name) or original(*a))

    count("kernel_gradient")
    count("both_gradients")
    return calls


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("shape", "outputs", "name"),
    [
        ((2, 32, 32, 32), 64, "kernel_gradient"),
        ((2, 16, 16, 64), 32, "kernel_gradient"),
        ((8, 32, 16, 32), 32, "kernel_gradient"),
        ((2, 64, 64, 32), 40, "both_gradients"),
        ((1, 64, 128, 40), 32, "both_gradients"),
    ],
)
def test_both_gradients_of_a_convolution_are_those_that_jax_derives(
    shape, outputs, name, mapped, called
):
    x, kernel = normal(0, *shape), normal(1, 3, 3, shape[-1], outputs)
    weight = normal(2, *shape[:3], outputs)
    assert suits_winograd(x, outputs)
    ours, theirs = (gradients(f, x, kernel, weight, mapped) for f in (convolve, by_jax))
    assert called == [name]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (3, 2)])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((1, 0), (0, 1))])
@pytest.mark.parametrize("sides", [(8, 8), (7, 10)])
def test_gradients_in_the_order_of_axes_of_the_cpu_are_those_that_jax_derives(
    stride, size, padding, sides, called
):
    x, kernel = normal(0, 3, *sides, 4), normal(1, *size, 4, 5)
    convolutions = [partial(f, padding=padding, stride=stride) for f in (convolve, by_jax)]
    weight = normal(2, *convolutions[1](x, kernel).shape)
    ours, theirs = (gradients(f, x, kernel, weight) for f in convolutions)
    assert not called
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("inputs", [1, 4, 40])
def test_gradients_of_a_convolution_to_one_map_are_those_that_jax_derives(inputs, called):
    x, kernel, weight = (
        normal(0, 2, 9, 33, inputs),
        normal(1, 3, 3, inputs, 1),
        normal(2, 2, 9, 33, 1),
    )
    text = str(jax.make_jaxpr(jax.grad(lambda k: convolve(x, k).sum()))(kernel))
    assert text.count("conv_general_dilated[") == 2  # forward, and the gradient in x
    ours, theirs = (gradients(f, x, kernel, weight) for f in (convolve, by_jax))
    assert not called
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


def test_a_convolution_that_halves_has_a_gradient_without_zeros_between_pixels():
    x, kernel = normal(0, 1, 8, 8, 4), normal(1, 3, 3, 4, 4)
    text = str(jax.make_jaxpr(jax.grad(lambda x: convolve(x, kernel, stride=2).sum()))(x))
    assert text.count("conv_general_dilated[") == 1 + 4 + 1  # and the kernel's
    assert set(re.findall(r"lhs_dilation=(\(.*?\))", text)) == {"(1, 1)"}


def test_a_loop_holds_no_convolution_in_another_order_of_axes():
    """XLA's CPU compiler puts right what lies outside of loops only; the others are slow."""
    x, kernel = normal(0, 2, 8, 8, 4), normal(1, 3, 3, 4, 4)

    def repeated(convolve, x, kernel):
        again = jax.lax.scan(lambda h, _: (convolve(h, kernel), None), x, None, 3)
        return again[0].sum()

    def orders(convolve):
        program = jax.jit(jax.grad(partial(repeated, convolve), (0, 1))).lower(x, kernel)
        return set(re.findall(r"dim_labels=(\S+?),? ", program.compile().as_text()))

    assert orders(convolve) == {"b01f_01io->b01f"}
    assert orders(by_jax) > {"b01f_01io->b01f"}  # else the gradients need not be written out


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
def test_what_does_not_suit_is_computed_as_a_convolution(x, outputs, called):
    assert not suits_winograd(x, outputs)
    kernel = normal(1, 3, 3, x.shape[-1], outputs).astype(x.dtype)
    jax.eval_shape(jax.grad(lambda *of: convolve(*of).sum(), (0, 1)), x, kernel)
    assert not called


@pytest.mark.parametrize("shape, padding, stride", [((1, 1), 0, 1), ((3, 3), 0, 1), ((3, 3), 1, 2)])
def test_only_what_keeps_the_size_is_turned_into_planes(shape, padding, stride, called):
    x, kernel = normal(0, 1, 32, 32, 32), normal(1, *shape, 32, 64)
    pads = ((padding, padding), (padding, padding))
    assert suits_winograd(x, 64)
    jax.eval_shape(jax.grad(lambda *of: convolve(*of, pads, stride).sum(), (0, 1)), x, kernel)
    assert not called


def dense_weights(features, growth):
    widths = [growth] * 4 + [features]
    return [
        (0.1 * normal(i, 3, 3, features + growth * i, width), normal(10 + i, width))
        for i, width in enumerate(widths)
    ]


@jax.jit
def nearest_bend(weights, x):
    """How near to 0 an inner layer comes before its leaky ReLU, in its standard deviations."""
    maps, nearest = x, jnp.inf
    for kernel, bias in weights[:-1]:
        y = convolve(maps, kernel) + bias
        nearest = jnp.minimum(nearest, jnp.abs(y).min() / y.std())
        maps = jnp.concatenate([maps, leaky(y)], axis=-1)
    return nearest


def met_by(weights, *shape):
    """Returns maps at which rounding cannot take a leaky ReLU to its other slope."""
    drawn = (normal(seed, *shape) for seed in count(20))
    return next(x for x in drawn if nearest_bend(weights, x) > 2e-5)


def assert_same_gradients(ours, theirs, weights, x):
    """Holds one function of weights and x to another by values and gradients, to 1e-5."""
    weight = normal(21, *x.shape)

    def loss(form, weights, x):
        return (form(weights, x) * weight).sum()

    one, other = (jax.value_and_grad(loss, (1, 2))(form, weights, x) for form in (ours, theirs))
    for found, true in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(found, true, rtol=0, atol=1e-5 * np.abs(true).max())


@pytest.mark.parametrize("images, side, groups", [(1, 32, 1), (1, 34, 1), (6, 32, 1), (8, 32, 2)])
def test_a_dense_block_in_parts_has_the_gradients_of_the_plain_one(images, side, groups):
    weights = dense_weights(32, 4)
    x = met_by(weights, images, side, side, 32)
    assert suits_winograd(x, 4 * 4 + 32) == (side == 32)
    assert len(split_in_chunks(x)) == groups
    assert_same_gradients(
        dense_block.dense_block_winograd, dense_block.dense_block_reference, weights, x
    )


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("features, growth", [(8, 4), (6, 9)])
def test_a_dense_block_spread_has_the_gradients_of_the_plain_one(
    backend, features, growth, monkeypatch
):
    weights = dense_weights(features, growth)
    x = met_by(weights, 2, 8, 7, features)
    plain = partial(dense_block.dense_block, "concat")
    true = jax.jit(plain)(weights, x)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    ours = partial(dense_block.dense_block, "spread")
    np.testing.assert_allclose(ours(weights, x), true, atol=1e-5)
    assert_same_gradients(ours, plain, weights, x)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_a_bias_has_the_sum_over_pixels_as_its_gradient(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    y, bias, dy = normal(0, 2, 5, 3, 4), normal(1, 4), normal(2, 2, 5, 3, 4)
    sums, pull = jax.vjp(conv.add_bias, y, bias)
    np.testing.assert_array_equal(sums, y + bias)
    np.testing.assert_array_equal(pull(dy)[0], dy)
    np.testing.assert_allclose(pull(dy)[1], np.asarray(dy, np.float64).sum((0, 1, 2)), atol=1e-5)


def test_only_large_maps_have_the_gradient_in_the_input_by_planes():
    assert suits_both(normal(0, 1, 64, 64, 32), 32)
    assert not suits_both(normal(0, 4, 32, 64, 32), 32)
    assert not suits_both(normal(0, 1, 64, 64, 32), 16)


@pytest.mark.parametrize("sides", [(16, 8), (5, 7)])  # a whole number of groups of pixels, or not
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_product_of_pixels_is_the_convolution_with_one_pixel_with_its_gradients(dtype, sides):
    keys = jax.random.split(jax.random.key(4), 3)
    x = jax.random.normal(keys[0], (2, *sides, 6)).astype(dtype)
    kernel = jax.random.normal(keys[1], (1, 1, 6, 4)).astype(dtype)
    dy = jax.random.normal(keys[2], (2, *sides, 4)).astype(dtype)
    plain = jax.vjp(lambda *of: convolve(*of, ((0, 0), (0, 0))), x, kernel)
    product = jax.vjp(convolve_pixels, x, kernel)
    pairs = zip((plain[0], *plain[1](dy)), (product[0], *product[1](dy)), strict=True)
    for expected, found in pairs:
        assert found.dtype == expected.dtype == dtype
        near = {"rtol": 1e-5, "atol": 1e-5} if dtype == jnp.float32 else {"rtol": 0.02, "atol": 0.1}
        np.testing.assert_allclose(found.astype("f4"), expected.astype("f4"), **near)
