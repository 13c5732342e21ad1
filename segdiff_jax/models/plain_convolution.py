"""A convolution by definition, and its gradients as convolutions. NHWC.

XLA's CPU compiler brings a convolution into the order of axes that its library is fast at, but not
within a loop, where it is tens of times slower: gradients are written in that order here.
"""

import jax
import jax.numpy as jnp

from segdiff_jax.models.sums import barrier

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
    gradient = barrier(shifted.reshape(9, -1)) @ x.reshape(-1, C)
    return gradient.reshape(3, 3, C, 1)
