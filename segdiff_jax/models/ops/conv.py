"""Computes 2-D convolutions and their gradients. Maps are NHWC, kernels HWIO.

`conv2d_reference` is the definition. On a CPU `conv2d` has the same forward pass, but gradients of
its own: XLA computes the gradient in a kernel as a convolution whose window is the whole map, at a
sixth to a half of the speed of the forward convolution. For large maps Winograd's algorithm takes a
quarter of the multiplications (`winograd_conv`). On other backends JAX derives the gradients.
"""

from functools import partial

import jax
import jax.numpy as jnp

from segdiff_jax.models.ops.switch import use_reference
from segdiff_jax.models.ops.winograd_conv import (
    input_grad_pays,
    kernel_grad_pays,
    winograd_grads,
    winograd_kernel_grad,
)
from segdiff_jax.models.ops.xla import matmul, optimization_barrier

Padding = tuple[tuple[int, int], tuple[int, int]]  # zeros before and after rows, and columns
SAME = ((1, 1), (1, 1))
NONE = ((0, 0), (0, 0))
LAYOUT = "NHWC", "HWIO", "NHWC"


def conv2d_reference(
    x: jax.Array, kernel: jax.Array, padding: Padding = SAME, stride: int = 1
) -> jax.Array:
    """Convolves [B, H, W, C] with [h, w, C, D] -> [B, H', W', D]: the definition of `conv2d`."""
    strides = stride, stride
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def conv2d(x: jax.Array, kernel: jax.Array, padding: Padding = SAME, stride: int = 1) -> jax.Array:
    """Convolves [B, H, W, C] with [h, w, C, D], both of one dtype -> [B, H', W', D]."""
    if use_reference() or jax.default_backend() != "cpu":
        return conv2d_reference(x, kernel, padding, stride)
    if (*kernel.shape[:2], padding, stride) == (1, 1, NONE, 1):
        # a matrix product; the kernel's gradient as one of a convolution takes three times as long
        return matmul(x.reshape(-1, x.shape[-1]), kernel[0, 0]).reshape(*x.shape[:-1], -1)
    return _conv2d_cpu(x, kernel, padding, stride)


def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds [C] to [B, H, W, C], both of one dtype."""
    if use_reference() or jax.default_backend() == "cpu":
        return y + bias
    return _add_bias(y, bias)


@jax.custom_vjp
def _add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    return y + bias


def _add_bias_backward(_: None, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    # a GPU takes three times as long where the sum is fused with what computes dy
    dy = optimization_barrier(dy)
    return dy, bias_grad(dy).astype(dy.dtype)


_add_bias.defvjp(lambda y, bias: (y + bias, None), _add_bias_backward)


def bias_grad(dy: jax.Array) -> jax.Array:
    """Computes the gradient of y + bias in the bias: [B, H, W, C] -> [C] float32."""
    return dy.sum((0, 1, 2), dtype=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d_cpu(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> jax.Array:
    return conv2d_reference(x, kernel, padding, stride)


def _conv2d_cpu_forward(
    x: jax.Array, kernel: jax.Array, padding: Padding, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv2d_reference(x, kernel, padding, stride), (x, kernel)


def _conv2d_cpu_backward(
    padding: Padding, stride: int, residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    if _keeps_size(kernel.shape, padding, stride) and input_grad_pays(x, kernel.shape[-1]):
        return winograd_grads(x, kernel, dy)
    dx = _input_grad(x.shape, kernel, dy, padding, stride)
    return dx, _kernel_grad(x, kernel.shape, dy, padding, stride)


_conv2d_cpu.defvjp(_conv2d_cpu_forward, _conv2d_cpu_backward)


def flip_and_transpose(kernel: jax.Array) -> jax.Array:
    """Returns the kernel of the input's gradient: [h, w, C, D] -> [h, w, D, C], rotated by 180."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _keeps_size(shape: tuple[int, ...], padding: Padding, stride: int) -> bool:
    """Returns whether a kernel is 3 x 3 with padding 1 and stride 1."""
    return (*shape[:2], padding, stride) == (3, 3, SAME, 1)


def _input_grad(
    shape: tuple[int, ...], kernel: jax.Array, dy: jax.Array, padding: Padding, stride: int
) -> jax.Array:
    """Computes the gradient in an x of this shape, in the layout that is fast inside loops.

    XLA's CPU compiler rewrites other layouts outside of loops only.
    """
    pads = []
    for axis in (0, 1):
        size, before = kernel.shape[axis], kernel.shape[axis] - 1 - padding[axis][0]
        extent = before + (dy.shape[1 + axis] - 1) * stride + 1
        pads.append((before, shape[1 + axis] + size - 1 - extent))
    flipped, dilation = flip_and_transpose(kernel), (stride, stride)
    return jax.lax.conv_general_dilated(
        dy, flipped, (1, 1), pads, lhs_dilation=dilation, dimension_numbers=LAYOUT
    )


def _kernel_grad(
    x: jax.Array, shape: tuple[int, ...], dy: jax.Array, padding: Padding, stride: int
) -> jax.Array:
    """Computes the gradient in a kernel by Winograd's algorithm, or as a convolution of x with dy.

    There, images take the axis of channels, over which a convolution sums, and channels theirs.
    """
    if _keeps_size(shape, padding, stride) and kernel_grad_pays(x, shape[-1]):
        return winograd_kernel_grad(x, dy)
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
