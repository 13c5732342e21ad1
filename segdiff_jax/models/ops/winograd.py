"""Winograd's minimal filtering of 3 x 3 convolutions (Lavin and Gray, arXiv 1509.09308). NHWC.

A tile of 4 x 4 results takes 144 products by definition and 36 so: maps and kernels are turned into
36 planes each, which are multiplied plane by plane, as matrices, and turned into results,

  convolve(x, kernel) = results(input_planes(x) @ kernel_planes(kernel)).

All three are linear, and gradients are products of the same planes with their transposes, which are
here too. It is the same convolution but for rounding, which is some times larger: polynomials are
multiplied at 0, 1, -1, 2, -2 and infinity.

The 36 planes are one array, so that a program has one product where it would have 36.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.models.ops.xla import optimization_barrier, transposed_product

TILE_IN = 6


PAIRS = (1, 2), (3, 4)  # of the points: 1 and -1, 2 and -2


# the planes of 6 values, of 3 values of a kernel, and the 4 results of 6 planes, along one side
B_T = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)


G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24


A_T = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def stacked(matrix: np.ndarray, values: Sequence[jax.Array], axis: int = 0) -> jax.Array:
    """Returns the product of a matrix and a vector of arrays, along a new axis."""
    return jnp.stack(combined(matrix, values), axis)


def combined(matrix: np.ndarray, values: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns the product of a matrix and a vector of arrays.

    What belongs to x and to -x differs in the sign of odd powers: a sum and a difference of the two
    take fewer operations, which a program has for every layer.
    """
    values, rows = list(values), []
    for i, j in PAIRS:
        if (fewer := _halved(matrix.T, i, j)) is not None:
            matrix = fewer.T
            values[i], values[j] = values[i] + values[j], values[i] - values[j]
        elif (fewer := _halved(matrix, i, j)) is not None:
            matrix = fewer
            rows.append((i, j))
    made = [_sum(m, values) for m in matrix]
    for i, j in rows:
        made[i], made[j] = made[i] + made[j], made[i] - made[j]
    return made


def _halved(matrix: np.ndarray, i: int, j: int) -> np.ndarray | None:
    """Returns half the sum of two rows and half their difference in their place.

    None where rows do not belong to points, or are no shorter so.
    """
    if len(matrix) != TILE_IN:
        return None
    halved = np.array(matrix, float)
    halved[i], halved[j] = (matrix[i] + matrix[j]) / 2, (matrix[i] - matrix[j]) / 2
    return halved if np.count_nonzero(halved) < np.count_nonzero(matrix) else None


def _sum(row: np.ndarray, values: Sequence[jax.Array]) -> jax.Array:
    terms = [v if m == 1 else float(m) * v for m, v in zip(row, values, strict=True) if m]
    return sum(terms[1:], start=terms[0])


TILE_OUT = 4  # results along a side


PLANES = np.kron(G, G).astype(np.float32)  # [36, 9], of the whole kernel


Maps = tuple[int, int, int]  # B, H and W


# Each step is traced once for all layers of one shape, since it is a function of its own. Where a
# barrier stands, the compiler would compute what is before it anew for each that reads it.


@jax.jit
def transform_input(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [36, tiles, C] of tiles of 6 x 6, which overlap; around x are zeros."""
    _, H, W, C = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = stacked(B_T, [x[:, i : i + H - 3 : TILE_OUT] for i in range(TILE_IN)])
    rows = optimization_barrier(rows)  # [6, B, H / 4, W + 2, C]
    planes = stacked(B_T, [rows[:, :, :, j : j + W - 3 : TILE_OUT] for j in range(TILE_IN)])
    return optimization_barrier(planes.reshape(TILE_IN**2, -1, C))


@partial(jax.jit, static_argnums=1)
def transform_input_vjp(planes: jax.Array, maps: Maps) -> jax.Array:
    """[36, tiles, C] -> [B, H, W, C]: the gradient in x."""
    B, H, W = maps
    C = planes.shape[-1]
    planes = planes.reshape(TILE_IN, TILE_IN, B, H // TILE_OUT, W // TILE_OUT, C)
    rows = _overlapping([planes[:, i] for i in range(TILE_IN)], 2)  # 4 of [6, B, H / 4, W / 4, C]
    rows = optimization_barrier(jnp.stack(rows, 3).reshape(TILE_IN, B, H, W // TILE_OUT, C))
    return jnp.stack(_overlapping([rows[j] for j in range(TILE_IN)], 2), 3).reshape(B, H, W, C)


@partial(jax.jit, static_argnums=1)
def transform_output(planes: jax.Array, maps: Maps) -> jax.Array:
    """[36, tiles, D] -> [B, H, W, D]."""
    B, H, W = maps
    D = planes.shape[-1]
    planes = planes.reshape(TILE_IN, TILE_IN, B, H // TILE_OUT, W // TILE_OUT, D)
    rows = stacked(A_T, [planes[:, i] for i in range(TILE_IN)], 3)
    rows = optimization_barrier(rows.reshape(TILE_IN, B, H, W // TILE_OUT, D))
    return stacked(A_T, [rows[j] for j in range(TILE_IN)], 3).reshape(B, H, W, D)


@jax.jit
def transform_output_vjp(dy: jax.Array) -> jax.Array:
    """[B, H, W, D] -> [36, tiles, D]."""
    B, H, W, D = dy.shape
    dy = dy.reshape(B, H, W // TILE_OUT, TILE_OUT, D)
    columns = stacked(A_T.T, [dy[:, :, :, j] for j in range(TILE_OUT)])
    columns = optimization_barrier(columns).reshape(
        TILE_IN, B, H // TILE_OUT, TILE_OUT, W // TILE_OUT, D
    )
    planes = stacked(A_T.T, [columns[:, :, :, i] for i in range(TILE_OUT)], 1)
    return optimization_barrier(planes.reshape(TILE_IN**2, -1, D))


def transform_filter(kernel: jax.Array) -> jax.Array:
    """[3, 3, C, D] -> [36, C, D], in the order of the others: the plane of column j, row i."""
    flat = kernel.swapaxes(0, 1).reshape(9, -1)
    planes = jnp.dot(PLANES, flat, precision=jax.lax.Precision.HIGHEST)
    return planes.reshape(-1, *kernel.shape[2:])


def transform_filter_vjp(planes: jax.Array) -> jax.Array:
    """[36, C, D] -> [3, 3, C, D]: the gradient in the kernel."""
    flat = planes.reshape(TILE_IN**2, -1)
    kernel = jnp.dot(PLANES.T, flat, precision=jax.lax.Precision.HIGHEST)
    return kernel.reshape(3, 3, *planes.shape[1:]).swapaxes(0, 1)


def multiply(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """Planes [36, tiles, C] and [36, C, D] -> [36, tiles, D]."""
    return jax.lax.dot_general(inputs, kernel, (((2,), (1,)), ((0,), (0,))))


def input_gradient_planes(kernel: jax.Array, dy: jax.Array) -> jax.Array:
    """Planes [36, C, D] and [36, tiles, D] -> [36, tiles, C]."""
    return jax.lax.dot_general(dy, kernel, (((2,), (2,)), ((0,), (0,))))


def kernel_gradient_planes(inputs: jax.Array, dy: jax.Array) -> jax.Array:
    """Planes [36, tiles, C] and [36, tiles, D] -> [36, C, D]."""
    return transposed_product(inputs, dy)


def _overlapping(values: Sequence[jax.Array], axis: int) -> list[jax.Array]:
    """Returns the 4 pixels of each tile: what it gives to them, and what its neighbours do.

    A tile of 6 begins one pixel before its four, so its first meets the last of the tile before,
    and its last the first of the tile after.

    Args:
      values: of the 6 planes.
      axis: along which the tiles lie.
    """
    before, *own, after = combined(B_T.T, values)

    def moved(x: jax.Array, by: int) -> jax.Array:
        pad = [(0, 0, 0)] * x.ndim
        pad[axis] = by, -by, 0
        return jax.lax.pad(x, jnp.zeros((), x.dtype), pad)

    return [own[0] + moved(after, 1), own[1], own[2], own[3] + moved(before, -1)]
