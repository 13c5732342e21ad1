"""Convolutions, and on a CPU their gradients in the forms that are fastest there. NHWC.

The gradient of a kernel is a convolution whose window is the whole map, at a sixth to a half of the
speed of the convolution itself. By Winograd's planes it is products of matrices, and a quarter of
them (`winograd_convolution`).
"""

from functools import partial

import jax
import jax.numpy as jnp

from segdiff_jax.models.ops import xla
from segdiff_jax.models.ops.winograd_conv import (
    both_gradients,
    kernel_gradient,
    suits_both,
    suits_winograd,
)
from segdiff_jax.models.ops.xla import optimization_barrier

Padding = tuple[tuple[int, int], tuple[int, int]]


SAME = ((1, 1), (1, 1))


LAYOUT = "NHWC", "HWIO", "NHWC"


def plain(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> jax.Array:
    """[B, H, W, C] with [h, w, C, D] -> [B, ..., D], convolved."""
    strides = stride, stride
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def centred(shape: tuple[int, ...], padding: Padding) -> bool:
    """Whether a kernel of a shape is 3 x 3, and has its middle on each pixel of the map."""
    return shape[:2] == (3, 3) and padding == SAME


def at_each_pixel(shape: tuple[int, ...], padding: Padding, stride: int) -> bool:
    """Whether it is `centred`, and so on every pixel: the result has the size of the map."""
    return centred(shape, padding) and stride == 1


def turned(kernel: jax.Array) -> jax.Array:
    """The kernel of the convolution the other way: [h, w, C, D] -> [h, w, D, C]."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def input_gradient(
    shape: tuple[int, ...], kernel: jax.Array, dy: jax.Array, padding: Padding, stride: int
) -> jax.Array:
    """Gradient of `plain(x, kernel, padding, stride)` in an x of this shape."""
    other_way = turned(kernel)
    even = shape[1] % 2 == 0 and shape[2] % 2 == 0
    if centred(kernel.shape, padding) and stride == 2 and even:
        return _halved_input_gradient(other_way, dy)
    pads = []
    for axis in (0, 1):
        size, before = kernel.shape[axis], kernel.shape[axis] - 1 - padding[axis][0]
        reached = before + (dy.shape[1 + axis] - 1) * stride + 1
        pads.append((before, shape[1 + axis] + size - 1 - reached))
    return jax.lax.conv_general_dilated(
        dy, other_way, (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=LAYOUT
    )


def _halved_input_gradient(turned: jax.Array, dy: jax.Array) -> jax.Array:
    """That of stride 2, size 3 and even maps: the four places of a pixel, each by its own taps.

    Every other pixel of a row meets only the middle tap, and the others the two outer ones. Among
    zeros, as a convolution of a dilated map has them, three of four products are with a zero.
    """
    taps, pads = (slice(1, 2), slice(0, 3, 2)), ((0, 0), (0, 1))
    places = [
        [plain(dy, turned[taps[i], taps[j]], (pads[i], pads[j]), 1) for j in (0, 1)] for i in (0, 1)
    ]
    return interleaved(places)


def interleaved(places: list[list[jax.Array]]) -> jax.Array:
    """2 x 2 maps [B, H, W, C], of the places within each pixel -> [B, 2H, 2W, C]."""
    B, H, W, C = places[0][0].shape
    doubled = jnp.stack([jnp.stack(row, axis=3) for row in places], axis=2)  # [B, H, 2, W, 2, C]
    return doubled.reshape(B, 2 * H, 2 * W, C)


def plain_kernel_gradient(
    x: jax.Array, shape: tuple[int, ...], dy: jax.Array, padding: Padding, stride: int
) -> jax.Array:
    """Gradient of `plain(x, kernel, padding, stride)` in a kernel of this shape."""
    if at_each_pixel(shape, padding, stride) and shape[-1] == 1:
        return _narrow_kernel_gradient(x, dy)
    return _wide_kernel_gradient(x, shape, dy, padding, stride)


def _wide_kernel_gradient(
    x: jax.Array, shape: tuple[int, ...], dy: jax.Array, padding: Padding, stride: int
) -> jax.Array:
    """Gradient of `plain(x, kernel, padding, stride)` in a kernel of this shape.

    Images take the place of channels, over which a convolution sums, and channels that of images.
    """
    pads = []
    for axis in (0, 1):
        before = padding[axis][0]
        window = (dy.shape[1 + axis] - 1) * stride + 1
        pads.append((before, shape[axis] + window - 1 - x.shape[1 + axis] - before))
    images, window = x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3)
    gradient = jax.lax.conv_general_dilated(
        images, window, (1, 1), pads, rhs_dilation=(stride, stride), dimension_numbers=LAYOUT
    )
    return gradient.transpose(1, 2, 0, 3)


def _narrow_kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `convolve(x, kernel)` in a 3 x 3 kernel of one output, [3, 3, C, 1].

    One product with nine shifted copies of the narrow map. As a convolution it runs at a fiftieth
    of the speed of the machine.
    """
    _, H, W, C = x.shape
    padded = jnp.pad(dy[..., 0], ((0, 0), (1, 1), (1, 1)))
    places = [(i, j) for i in (2, 1, 0) for j in (2, 1, 0)]
    shifted = jnp.stack([padded[:, i : i + H, j : j + W] for i, j in places])
    gradient = optimization_barrier(shifted.reshape(9, -1)) @ x.reshape(-1, C)
    return gradient.reshape(3, 3, C, 1)


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    padding: Padding = SAME,
    stride: int = 1,
) -> jax.Array:
    """A convolution.

    Args:
      x: [B, H, W, C].
      kernel: [h, w, C, D].
      padding: zeros on each side.
      stride: of both axes.

    Returns:
      [B, ..., D].
    """
    if jax.default_backend() != "cpu":
        return plain(x, kernel, padding, stride)
    return _convolve(x, kernel, padding, stride)


def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """[B, H, W, C] and [C], both of one dtype -> y + bias."""
    return y + bias if jax.default_backend() == "cpu" else _add_bias(y, bias)


@jax.custom_vjp
def _add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    return y + bias


def _add_bias_backward(_: None, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    # made first: a GPU takes three times as long over a sum with what makes the map in one pass
    dy = optimization_barrier(dy)
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
    return xla.product(x.reshape(-1, x.shape[-1]), kernel[0, 0]).reshape(*x.shape[:-1], -1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> jax.Array:
    return plain(x, kernel, padding, stride)


def _forward(
    x: jax.Array, kernel: jax.Array, padding: Padding, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return plain(x, kernel, padding, stride), (x, kernel)


def _backward(
    padding: Padding, stride: int, kept: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
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
