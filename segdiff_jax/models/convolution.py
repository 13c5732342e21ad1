"""3 x 3 convolutions, and their kernel's gradient with fewer products. NHWC.

XLA's CPU compiler computes the gradient of a kernel as a convolution whose window is the whole map,
at a sixth to a half of the speed of the convolution itself. Winograd's minimal filtering (Lavin and
Gray, arXiv 1509.09308) takes 36 products where the definition has 144, and they are plain matrix
products: `winograd`. It is the same gradient but for rounding, which is some times larger.
"""

from collections.abc import Sequence

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
LEAST_OUTPUTS_OF_MANY = 32  # where there are at least so many images:
MANY = 8
MOST_PIXELS = 4 * 64 * 64  # of images that are transformed together: what is transformed is cached

# Along an axis, the gradient of a kernel of 3 from 4 values of dy and the 6 of x that they meet is
# SUMS @ ((OUTPUTS @ dy) * (INPUTS @ x)): polynomials, multiplied at 0, 1, -1, 2, -2 and infinity.
INPUTS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
OUTPUTS = (
    np.array(
        [
            [6, 0, 0, 0],
            [-4, -4, -4, -4],
            [-4, 4, -4, 4],
            [1, 2, 4, 8],
            [1, -2, 4, -8],
            [0, 0, 0, 24],
        ]
    )
    / 24
)
SUMS = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 1]])
TILE = 4


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
    """Whether `winograd` can compute the gradient of a kernel, and sooner than XLA.

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
    return input_gradient(kernel, dy), winograd(x, dy)


_convolve_same.defvjp(_forward, _backward)


def input_gradient(kernel: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `convolve(x, kernel)` in x: [3, 3, C, D] and [B, H, W, D] -> [B, H, W, C]."""
    return convolve(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


@jax.jit  # hundreds of operations, traced once for all layers of one shape
def winograd(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `convolve(x, kernel)` in a 3 x 3 kernel, by products over tiles of 4 x 4 pixels.

    Args:
      x: [B, H, W, C] float32; H and W are multiples of 4.
      dy: [B, H, W, D], the gradient of the result.

    Returns:
      [3, 3, C, D].
    """
    B, H, W, C = x.shape
    together = max(1, MOST_PIXELS // (H * W))
    if B <= together or B % together:
        return _winograd(x, dy)

    def add(total: jax.Array, rows: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + _winograd(*rows), None

    def grouped(maps: jax.Array) -> jax.Array:
        return maps.reshape(B // together, together, *maps.shape[1:])

    zeros = jnp.zeros((3, 3, C, dy.shape[-1]), x.dtype)
    return jax.lax.scan(add, zeros, (grouped(x), grouped(dy)))[0]


def _winograd(x: jax.Array, dy: jax.Array) -> jax.Array:
    """`winograd` of images that are transformed together."""
    padded = jnp.pad(x, ((0, 0), *SAME, (0, 0)))
    tiles = zip(_transformed(padded, INPUTS), _transformed(dy, OUTPUTS), strict=True)
    tile_wise = ((1,), (1,)), ((0,), (0,))
    sums = jnp.stack([jax.lax.dot_general(a, b, tile_wise) for a, b in tiles])  # [6, 6, C, D]
    matrix = SUMS.astype(np.float32)
    precision = jax.lax.Precision.HIGHEST
    return jnp.einsum("ia,jb,bacd->ijcd", matrix, matrix, sums, precision=precision)


def _transformed(x: jax.Array, matrix: np.ndarray) -> list[jax.Array]:
    """Returns `matrix @ tile @ matrix.T` of all tiles, column by column: 6 of [6, tiles, channels].

    Args:
      x: maps; tiles begin every `TILE` pixels and have as many rows as the matrix has columns.
      matrix: INPUTS or OUTPUTS.
    """
    h, w, C = x.shape[1:]
    size = matrix.shape[1]
    rows, columns = h - size + 1, w - size + 1  # where a tile may begin
    along = _combined(matrix, [x[:, :, j : j + columns : TILE] for j in range(size)])
    # else each entry would be combined from the pixels anew, which makes programs twice as long
    along = jax.lax.optimization_barrier(along)  # 6 of [B, H, w, C]
    tiles = [_combined(matrix, [y[:, i : i + rows : TILE] for i in range(size)]) for y in along]
    return [jnp.stack(column).reshape(len(matrix), -1, C) for column in tiles]


def _combined(matrix: np.ndarray, values: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns the product of a matrix and a vector of arrays."""
    rows = [[float(m) * v for m, v in zip(row, values, strict=True) if m] for row in matrix]
    return [sum(terms[1:], start=terms[0]) for terms in rows]
