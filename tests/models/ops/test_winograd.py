"""Checks Winograd's transforms against the convolution, and their transposes against jax's."""

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
TRANSFORMED = [RANDOM.standard_normal((36, 2 * 2 * 3, n), np.float32) for n in (3, 5)]


def test_the_transforms_and_products_compute_the_convolution():
    m = winograd.multiply(winograd.transform_input(X), winograd.transform_filter(KERNEL))
    padded = np.pad(X.astype("f8"), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    want = np.einsum("bhwcij,ijcd->bhwd", windows, KERNEL.astype("f8"))
    near = 1e-5 * np.abs(want).max()  # up to 1.4e-6 was seen
    np.testing.assert_allclose(winograd.transform_output(m, SIZE), want, rtol=0, atol=near)


@pytest.mark.parametrize(
    ("transform", "operand", "vjp", "cotangent"),
    [
        (
            winograd.transform_input,
            X,
            lambda v: winograd.transform_input_vjp(v, SIZE),
            TRANSFORMED[0],
        ),
        (
            lambda m: winograd.transform_output(m, SIZE),
            TRANSFORMED[1],
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
    ids=["input", "output", "filter"],
)
def test_each_transpose_is_the_one_that_jax_derives(transform, operand, vjp, cotangent):
    (want,) = jax.linear_transpose(transform, jnp.asarray(operand))(jnp.asarray(cotangent))
    np.testing.assert_allclose(vjp(cotangent), want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("product", ["multiply_vjp_input", "multiply_vjp_filter"])
def test_gradients_of_the_products_are_those_that_jax_derives(product):
    v, u = winograd.transform_input(X), winograd.transform_filter(KERNEL)
    dm = winograd.transform_output_vjp(DY)
    dv, du = jax.vjp(winograd.multiply, v, u)[1](dm)
    if product == "multiply_vjp_input":
        result, want = winograd.multiply_vjp_input(u, dm), dv
    else:
        result, want = winograd.multiply_vjp_filter(v, dm), du
    np.testing.assert_allclose(result, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("widths", [(5, 3), (3, 5), (4, 4)])
def test_a_product_over_rows_is_that_of_the_transposed(widths):
    a, b = (RANDOM.standard_normal((7, 9, n), np.float32) for n in widths)
    want = np.einsum("npc,npd->ncd", a.astype("f8"), b.astype("f8"))
    found = transposed_product(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-5)


def test_g_as_a_scan_by_winograd_has_the_values_and_gradients_of_the_reference():
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
