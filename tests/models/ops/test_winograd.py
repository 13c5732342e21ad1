"""Winograd's planes make the convolution by definition, and their transposes its gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segdiff_jax.models.ops import winograd
from segdiff_jax.models.ops.xla import transposed_product
from segdiff_jax.models.rrdb import RRDBNet

SIZE = 2, 8, 12  # images, rows, columns
RANDOM = np.random.default_rng(0)
X, DY = (RANDOM.standard_normal((*SIZE, n), np.float32) for n in (3, 5))
KERNEL = RANDOM.standard_normal((3, 3, 3, 5), np.float32)
PLANES = [RANDOM.standard_normal((36, 2 * 2 * 3, n), np.float32) for n in (3, 5)]


def test_the_products_of_planes_are_the_convolution():
    planes = winograd.multiply(winograd.transform_input(X), winograd.transform_filter(KERNEL))
    padded = np.pad(X.astype("f8"), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    want = np.einsum("bhwcij,ijcd->bhwd", windows, KERNEL.astype("f8"))
    near = 1e-5 * np.abs(want).max()  # up to 1.4e-6 was seen
    np.testing.assert_allclose(winograd.transform_output(planes, SIZE), want, rtol=0, atol=near)


@pytest.mark.parametrize(
    ("turned", "given", "back", "answer"),
    [
        (winograd.transform_input, X, lambda p: winograd.transform_input_vjp(p, SIZE), PLANES[0]),
        (
            lambda p: winograd.transform_output(p, SIZE),
            PLANES[1],
            winograd.transform_output_vjp,
            DY,
        ),
        (
            winograd.transform_filter,
            KERNEL,
            winograd.transform_filter_vjp,
            RANDOM.standard_normal((36, 3, 5), np.float32),
        ),
    ],
    ids=["maps", "results", "kernels"],
)
def test_each_transpose_is_the_one_that_jax_derives(turned, given, back, answer):
    (want,) = jax.linear_transpose(turned, jnp.asarray(given))(jnp.asarray(answer))
    np.testing.assert_allclose(back(answer), want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("product", ["input_gradient_planes", "kernel_gradient_planes"])
def test_gradients_of_products_of_planes_are_those_that_jax_derives(product):
    met, kernel = winograd.transform_input(X), winograd.transform_filter(KERNEL)
    given = winograd.transform_output_vjp(DY)
    inputs, kernels = jax.vjp(winograd.multiply, met, kernel)[1](given)
    if product == "input_gradient_planes":
        found, want = winograd.input_gradient_planes(kernel, given), inputs
    else:
        found, want = winograd.kernel_gradient_planes(met, given), kernels
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("widths", [(5, 3), (3, 5), (4, 4)])
def test_a_product_over_rows_is_that_of_the_transposed(widths):
    a, b = (RANDOM.standard_normal((7, 9, n), np.float32) for n in widths)
    want = np.einsum("npc,npd->ncd", a.astype("f8"), b.astype("f8"))
    found = transposed_product(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-5)


def test_g_as_a_loop_with_planes_has_the_values_and_gradients_of_the_plain_one():
    image, weight = (RANDOM.standard_normal((1, 32, 32, n), np.float32) for n in (3, 8))
    plain, looped = (RRDBNet(8, 2, 32, 16, form=form) for form in ("concat", "parts"))
    variables = {"params": plain.init(jax.random.key(0), image)["params"]}

    def loss(network, variables):
        return (network.apply(variables, image) * weight).sum()

    values = [jax.jit(network.apply)(variables, image) for network in (plain, looped)]
    np.testing.assert_allclose(values[1], values[0], rtol=0, atol=1e-5 * np.abs(values[0]).max())
    both = [jax.jit(jax.grad(partial(loss, network)))(variables) for network in (plain, looped)]
    for ours, theirs in zip(*map(jax.tree.leaves, both[::-1]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
