"""Convolutions, and on a CPU their gradients in the forms that are fastest there. NHWC.

The gradient of a kernel is a convolution whose window is the whole map, at a sixth to a half of the
speed of the convolution itself. By Winograd's planes it is products of matrices, and a quarter of
them (`winograd_convolution`). Where a gradient is asked for, the convolution itself may be made so
as well, if the same planes serve both.
"""

from functools import partial

import jax
import jax.numpy as jnp

from segdiff_jax.models import products
from segdiff_jax.models.plain_convolution import (
    SAME,
    Padding,
    at_each_pixel,
    input_gradient,
    plain,
    plain_kernel_gradient,
)
from segdiff_jax.models.sums import barrier
from segdiff_jax.models.winograd_convolution import (
    Kept,
    both_gradients,
    convolved,
    gradients_of_planes,
    kernel_gradient,
    suits_both,
    suits_planes,
    suits_winograd,
)


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    padding: Padding = SAME,
    stride: int = 1,
    by_planes: bool = False,
) -> jax.Array:
    """A convolution.

    Args:
      x: [B, H, W, C].
      kernel: [h, w, C, D].
      padding: zeros on each side.
      stride: of both axes.
      by_planes: whether the result may be made of planes where gradients are asked for, whose
        rounding is some times larger. Near 0 it decides on which side of a leaky ReLU a value is.

    Returns:
      [B, ..., D].
    """
    if jax.default_backend() != "cpu":
        return plain(x, kernel, padding, stride)
    return _convolve(x, kernel, padding, stride, by_planes)


def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """[B, H, W, C] and [C], both of one dtype -> y + bias."""
    return y + bias if jax.default_backend() == "cpu" else _add_bias(y, bias)


@jax.custom_vjp
def _add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    return y + bias


def _add_bias_backward(_: None, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    # made first: a GPU takes three times as long over a sum with what makes the map in one pass
    dy = barrier(dy)
    return dy, bias_gradient(dy).astype(dy.dtype)


_add_bias.defvjp(lambda y, bias: (y + bias, None), _add_bias_backward)


def bias_gradient(dy: jax.Array) -> jax.Array:
    """Gradient of y + bias in the bias, from that of the sum: [B, H, W, C] -> [C] float32."""
    return dy.sum((0, 1, 2), dtype=jnp.float32)


def convolve_pixels(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] with [1, 1, C, D] -> [B, H, W, D].

    On a CPU as a product of matrices, whose gradient in the kernel is another: that of a
    convolution takes three times as long.
    """
    if jax.default_backend() != "cpu":
        return convolve(x, kernel, ((0, 0), (0, 0)))
    return products.product(x.reshape(-1, x.shape[-1]), kernel[0, 0]).reshape(*x.shape[:-1], -1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(
    x: jax.Array, kernel: jax.Array, padding: Padding, stride: int, by_planes: bool
) -> jax.Array:
    return plain(x, kernel, padding, stride)


def _forward(
    x: jax.Array, kernel: jax.Array, padding: Padding, stride: int, by_planes: bool
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    same = at_each_pixel(kernel.shape, padding, stride)
    if by_planes and same and suits_planes(x, kernel.shape[-1]):
        return convolved(x, kernel)
    return plain(x, kernel, padding, stride), (x, kernel)


def _backward(
    padding: Padding, stride: int, by_planes: bool, kept: Kept, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    if x.ndim == 3:  # planes
        return gradients_of_planes(kept, dy)
    same = at_each_pixel(kernel.shape, padding, stride)
    if same and suits_both(x, kernel.shape[-1]):
        return both_gradients(x, kernel, dy)
    dx = input_gradient(x.shape, kernel, dy, padding, stride)
    return dx, _kernel_gradient(x, kernel.shape, dy, padding, stride)


_convolve.defvjp(_forward, _backward)


def gradient_in_input(kernel: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `convolve(x, kernel)` in x: [3, 3, C, D] and [B, H, W, D] -> [B, H, W, C]."""
    shape = *dy.shape[:3], kernel.shape[2]
    if jax.default_backend() == "cpu":
        return input_gradient(shape, kernel, dy, SAME, 1)
    x = jax.ShapeDtypeStruct(shape, dy.dtype)
    return jax.linear_transpose(lambda x: convolve(x, kernel), x)(dy)[0]


def gradient_in_kernel(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `convolve(x, kernel)` in a 3 x 3 kernel of C inputs and D outputs.

    [B, H, W, C] and [B, H, W, D] -> [3, 3, C, D].
    """
    shape = 3, 3, x.shape[-1], dy.shape[-1]
    if jax.default_backend() == "cpu":
        return _kernel_gradient(x, shape, dy, SAME, 1)
    kernel = jax.ShapeDtypeStruct(shape, x.dtype)
    return jax.linear_transpose(lambda kernel: convolve(x, kernel), kernel)(dy)[0]


def _kernel_gradient(
    x: jax.Array, shape: tuple[int, ...], dy: jax.Array, padding: Padding, stride: int
) -> jax.Array:
    """Gradient of `convolve(x, kernel, padding, stride)` in a kernel of this shape."""
    if at_each_pixel(shape, padding, stride) and suits_winograd(x, shape[-1]):
        return kernel_gradient(x, dy)
    return plain_kernel_gradient(x, shape, dy, padding, stride)
