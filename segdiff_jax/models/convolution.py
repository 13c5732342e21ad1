"""3 x 3 convolutions, and their kernel's gradient with fewer products. NHWC.

XLA's CPU compiler computes the gradient of a kernel as a convolution whose window is the whole map,
at a sixth to a half of the speed of the convolution itself. Winograd's minimal filtering (Lavin and
Gray, arXiv 1509.09308) takes 16 products where the definition has 36, and they are plain matrix
products: `winograd`. It is the same gradient but for rounding.
"""

import jax
import jax.numpy as jnp
import numpy as np

Padding = tuple[tuple[int, int], tuple[int, int]]
SAME = ((1, 1), (1, 1))
LAYOUT = "NHWC", "HWIO", "NHWC"

# below these, what surrounds the products takes longer than they save
LEAST_PIXELS = 32 * 32
LEAST_INPUTS = 32
LEAST_OUTPUTS = 64

# of F(2 x 2, 3 x 3): how the nine values of a kernel become sixteen, along each of its axes
KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)


def convolve(
    x: jax.Array, kernel: jax.Array, padding: Padding = SAME, stride: int = 1
) -> jax.Array:
    """[B, H, W, C] with [h, w, C, D] -> [B, ..., D]; padding: zeros on each side."""
    strides = stride, stride
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def convolve_same(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve` of a 3 x 3 kernel that keeps the size; its gradient is what is fastest."""
    if suits_winograd(x, kernel.shape[-1]):
        return _convolve_same(x, kernel)
    return convolve(x, kernel)


def suits_winograd(x: jax.Array, outputs: int) -> bool:
    """Whether `winograd` can compute the gradient of a kernel, and sooner than XLA.

    Args:
      x: [B, H, W, C], what the kernel meets.
      outputs: of the kernel.
    """
    H, W, C = x.shape[1:]
    possible = H % 2 == 0 and W % 2 == 0 and x.dtype == jnp.float32
    large = H * W >= LEAST_PIXELS and C >= LEAST_INPUTS and outputs >= LEAST_OUTPUTS
    return possible and large and jax.default_backend() == "cpu"


@jax.custom_vjp
def _convolve_same(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolve(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel), (x, kernel)


def _backward(kept: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    return input_gradient(kernel, dy), winograd(x, dy)


_convolve_same.defvjp(_forward, _backward)


def input_gradient(kernel: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `convolve(x, kernel)` in x: [3, 3, C, D] and [B, H, W, D] -> [B, H, W, C]."""
    return convolve(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


def winograd(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `convolve(x, kernel)` in a 3 x 3 kernel, by products over tiles of 2 x 2 pixels.

    Args:
      x: [B, H, W, C] float32; H and W are even.
      dy: [B, H, W, D], the gradient of the result.

    Returns:
      [3, 3, C, D].
    """
    sums = [
        jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())))  # [C, D]
        for a, b in zip(_input_planes(x), _output_planes(dy), strict=True)
    ]
    planes = jnp.stack(sums).reshape(4, 4, x.shape[-1], dy.shape[-1])
    precision = jax.lax.Precision.HIGHEST
    return jnp.einsum("ai,bj,abcd->ijcd", KERNEL, KERNEL, planes, precision=precision)


def _input_planes(x: jax.Array) -> list[jax.Array]:
    """Returns the sixteen [tiles, C] of tiles of 4 x 4 pixels, two apart, transformed."""
    H, W, C = x.shape[1:]
    padded = jnp.pad(x, ((0, 0), *SAME, (0, 0)))
    tiles = [[padded[:, i : i + H - 1 : 2, j : j + W - 1 : 2] for j in range(4)] for i in range(4)]

    def transformed(first, second, third, fourth):
        return first - third, second + third, third - second, second - fourth

    rows = zip(*(transformed(*column) for column in zip(*tiles, strict=True)), strict=True)
    return [plane.reshape(-1, C) for row in rows for plane in transformed(*row)]


def _output_planes(dy: jax.Array) -> list[jax.Array]:
    """Returns the sixteen [tiles, D] of tiles of 2 x 2 pixels, transformed."""
    D = dy.shape[-1]
    tiles = [[dy[:, i::2, j::2] for j in range(2)] for i in range(2)]

    def transformed(first, second):
        return first, first + second, first - second, -second

    rows = zip(*(transformed(*column) for column in zip(*tiles, strict=True)), strict=True)
    return [plane.reshape(-1, D) for row in rows for plane in transformed(*row)]
