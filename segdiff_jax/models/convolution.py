"""Convolutions, and the gradient of 3 x 3 kernels with fewer products. NHWC.

XLA's CPU compiler computes the gradient of a kernel as a convolution whose window is the whole map,
at a sixth to a half of the speed of the convolution itself. By Winograd's planes it is products of
matrices, and a quarter of them: `kernel_gradient`.
"""

import jax
import jax.numpy as jnp

from segdiff_jax.models import winograd
from segdiff_jax.models.winograd import TILE

Padding = tuple[tuple[int, int], tuple[int, int]]
SAME = ((1, 1), (1, 1))
LAYOUT = "NHWC", "HWIO", "NHWC"

# below these, what surrounds the products takes longer than they save
LEAST_PIXELS = 32 * 32
LEAST_INPUTS = 32
LEAST_OUTPUTS = 64
LEAST_OUTPUTS_OF_MANY = 32  # where there are at least so many images:
MANY = 8
MOST_PIXELS = 4 * 64 * 64  # of images that are transformed together: what is transformed is cached


def convolve(
    x: jax.Array, kernel: jax.Array, padding: Padding = SAME, stride: int = 1
) -> jax.Array:
    """[B, H, W, C] with [h, w, C, D] -> [B, ..., D]; padding: zeros on each side."""
    strides = stride, stride
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def convolve_pixels(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] with [1, 1, C, D] -> [B, H, W, D].

    On a CPU as a product of matrices, whose gradient in the kernel is another: that of a
    convolution takes three times as long.
    """
    if jax.default_backend() != "cpu":
        return convolve(x, kernel, ((0, 0), (0, 0)))
    product = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
    return product.reshape(*x.shape[:-1], -1)


def convolve_same(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve` of a 3 x 3 kernel that keeps the size; its gradient is what is fastest."""
    if suits_winograd(x, kernel.shape[-1]):
        return _convolve_same(x, kernel)
    return convolve(x, kernel)


def suits_winograd(x: jax.Array, outputs: int) -> bool:
    """Whether `kernel_gradient` can compute the gradient of a kernel, and sooner than XLA.

    Args:
      x: [B, H, W, C], what the kernel meets.
      outputs: of the kernel.
    """
    B, H, W, C = x.shape
    possible = H % TILE == 0 and W % TILE == 0 and x.dtype == jnp.float32
    least = LEAST_OUTPUTS_OF_MANY if B >= MANY else LEAST_OUTPUTS
    large = H * W >= LEAST_PIXELS and C >= LEAST_INPUTS and outputs >= least
    return possible and large and jax.default_backend() == "cpu"


@jax.custom_vjp
def _convolve_same(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolve(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel), (x, kernel)


def _backward(kept: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    return input_gradient(kernel, dy), kernel_gradient(x, dy)


_convolve_same.defvjp(_forward, _backward)


def input_gradient(kernel: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `convolve(x, kernel)` in x: [3, 3, C, D] and [B, H, W, D] -> [B, H, W, C]."""
    return convolve(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


@jax.jit  # traced once for all layers of one shape
def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `convolve(x, kernel)` in a 3 x 3 kernel, by products over tiles of 4 x 4 pixels.

    Args:
      x: [B, H, W, C] float32; H and W are multiples of 4.
      dy: [B, H, W, D], the gradient of the result.

    Returns:
      [3, 3, C, D].
    """
    B, H, W, _ = x.shape
    together = max(1, MOST_PIXELS // (H * W))
    if B <= together or B % together:
        return winograd.kernel_planes_transposed(_planes(x, dy))

    def add(total: jax.Array, rows: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + _planes(*rows), None

    def grouped(maps: jax.Array) -> jax.Array:
        return maps.reshape(B // together, together, *maps.shape[1:])

    zeros = jnp.zeros((winograd.POINTS**2, x.shape[-1], dy.shape[-1]), x.dtype)
    total, _ = jax.lax.scan(add, zeros, (grouped(x), grouped(dy)))
    return winograd.kernel_planes_transposed(total)


def _planes(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Planes of the gradient, [36, C, D], of images that are transformed together."""
    met, given = winograd.input_planes(x), winograd.results_transposed(dy)
    return winograd.kernel_gradient_planes(met, given)
