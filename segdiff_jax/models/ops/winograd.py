"""Winograd convolution F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308). NHWC.

A map is cut into tiles d of 6 x 6 pixels that overlap by 2; each yields 4 x 4 outputs Y of a 3 x 3
kernel g. With the matrices B, G and A of the paper

  V = B^T d B     transform_input     [B, H, W, C] -> [36, tiles, C]
  U = G g G^T     transform_filter    [3, 3, C, D] -> [36, C, D]
  M = V U         multiply            36 matrix products, summed over C
  Y = A^T M A     transform_output    [36, tiles, D] -> [B, H, W, D]

36 multiplications a tile and pair of channels instead of 144. Every step is linear, so gradients
are its transposes, the functions `*_vjp`. Rounding is larger than that of a direct convolution: the
interpolation points are 0, 1, -1, 2, -2 and infinity.

The 36 transformed values are one leading axis, so that a program has one batched matrix product
instead of 36.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.models.ops.xla import optimization_barrier, transposed_product

Maps = tuple[int, int, int]  # B, H and W

TILE_IN = 6  # pixels of a side of d
TILE_OUT = 4  # outputs of a side of Y
OPPOSITE_POINTS = (1, 2), (3, 4)  # rows of the points 1 and -1, 2 and -2

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
G_2D = np.kron(G, G).astype(np.float32)  # [36, 9]: G g G^T of a flattened g
EXACT = jax.lax.Precision.HIGHEST


# Each transform is jitted, and so traced once for all layers of one shape. A barrier stands where
# XLA would recompute a transform in each of its consumers.
@jax.jit
def transform_input(x: jax.Array) -> jax.Array:
    """Computes V = B^T d B of all tiles of a zero-padded map: [B, H, W, C] -> [36, tiles, C]."""
    _, H, W, C = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = stacked_matvec(B_T, [x[:, i : i + H - 3 : TILE_OUT] for i in range(TILE_IN)])
    rows = optimization_barrier(rows)  # [6, B, H / 4, W + 2, C]
    v = stacked_matvec(B_T, [rows[:, :, :, j : j + W - 3 : TILE_OUT] for j in range(TILE_IN)])
    return optimization_barrier(v.reshape(TILE_IN**2, -1, C))


@partial(jax.jit, static_argnums=1)
def transform_input_vjp(dv: jax.Array, maps: Maps) -> jax.Array:
    """Computes the gradient of `transform_input` in x: [36, tiles, C] -> [B, H, W, C]."""
    (B, H, W), C = maps, dv.shape[-1]
    dv = dv.reshape(TILE_IN, TILE_IN, B, H // TILE_OUT, W // TILE_OUT, C)
    rows = _overlap_add([dv[:, i] for i in range(TILE_IN)])  # 4 of [6, B, H / 4, W / 4, C]
    rows = optimization_barrier(jnp.stack(rows, 3).reshape(TILE_IN, B, H, W // TILE_OUT, C))
    return jnp.stack(_overlap_add(list(rows)), 3).reshape(B, H, W, C)


@partial(jax.jit, static_argnums=1)
def transform_output(m: jax.Array, maps: Maps) -> jax.Array:
    """Computes Y = A^T M A: [36, tiles, D] -> [B, H, W, D]."""
    (B, H, W), D = maps, m.shape[-1]
    m = m.reshape(TILE_IN, TILE_IN, B, H // TILE_OUT, W // TILE_OUT, D)
    rows = stacked_matvec(A_T, [m[:, i] for i in range(TILE_IN)], 3)
    rows = optimization_barrier(rows.reshape(TILE_IN, B, H, W // TILE_OUT, D))
    return stacked_matvec(A_T, list(rows), 3).reshape(B, H, W, D)


@jax.jit
def transform_output_vjp(dy: jax.Array) -> jax.Array:
    """Computes the gradient of `transform_output` in M: [B, H, W, D] -> [36, tiles, D]."""
    B, H, W, D = dy.shape
    dy = dy.reshape(B, H, W // TILE_OUT, TILE_OUT, D)
    columns = stacked_matvec(A_T.T, [dy[:, :, :, j] for j in range(TILE_OUT)])
    columns = optimization_barrier(columns)
    columns = columns.reshape(TILE_IN, B, H // TILE_OUT, TILE_OUT, W // TILE_OUT, D)
    dm = stacked_matvec(A_T.T, [columns[:, :, :, i] for i in range(TILE_OUT)], 1)
    return optimization_barrier(dm.reshape(TILE_IN**2, -1, D))


def transform_filter(kernel: jax.Array) -> jax.Array:
    """Computes U = G g G^T, columns before rows as in V and M: [3, 3, C, D] -> [36, C, D]."""
    flat = kernel.swapaxes(0, 1).reshape(9, -1)
    return jnp.dot(G_2D, flat, precision=EXACT).reshape(-1, *kernel.shape[2:])


def transform_filter_vjp(du: jax.Array) -> jax.Array:
    """Computes the gradient of `transform_filter` in g: [36, C, D] -> [3, 3, C, D]."""
    flat = du.reshape(TILE_IN**2, -1)
    return jnp.dot(G_2D.T, flat, precision=EXACT).reshape(3, 3, *du.shape[1:]).swapaxes(0, 1)


def multiply(v: jax.Array, u: jax.Array) -> jax.Array:
    """Computes M = V U: [36, tiles, C] and [36, C, D] -> [36, tiles, D]."""
    return jax.lax.dot_general(v, u, (((2,), (1,)), ((0,), (0,))))


def multiply_vjp_input(u: jax.Array, dm: jax.Array) -> jax.Array:
    """Computes the gradient of `multiply` in V: [36, C, D] and [36, tiles, D] -> [36, tiles, C]."""
    return jax.lax.dot_general(dm, u, (((2,), (2,)), ((0,), (0,))))


def multiply_vjp_filter(v: jax.Array, dm: jax.Array) -> jax.Array:
    """Computes the gradient of `multiply` in U: [36, tiles, C] and [36, tiles, D] -> [36, C, D]."""
    return transposed_product(v, dm)


def _overlap_add(values: Sequence[jax.Array]) -> list[jax.Array]:
    """Maps the 6 transformed values of tiles that lie along axis 2 to their 4 pixels.

    Multiplies by B and adds what neighbours contribute. A tile of 6 begins one pixel before its own
    4: its first pixel is the last of the previous tile's 4, its last the first of the next tile's.
    """
    before, *own, after = matvec(B_T.T, values)

    def shift(x: jax.Array, by: int) -> jax.Array:
        pads = [(0, 0, 0)] * 2 + [(by, -by, 0)] + [(0, 0, 0)] * (x.ndim - 3)
        return jax.lax.pad(x, jnp.zeros((), x.dtype), pads)

    return [own[0] + shift(after, 1), own[1], own[2], own[3] + shift(before, -1)]


def stacked_matvec(matrix: np.ndarray, values: Sequence[jax.Array], axis: int = 0) -> jax.Array:
    """Multiplies a constant matrix by a vector of arrays, and stacks the results on a new axis."""
    return jnp.stack(matvec(matrix, values), axis)


def matvec(matrix: np.ndarray, values: Sequence[jax.Array]) -> list[jax.Array]:
    """Multiplies a constant matrix by a vector of arrays, with few additions.

    Rows (or columns) of the points x and -x differ in the sign of odd powers. Computing half their
    sum and half their difference first (a butterfly) takes fewer operations.
    """
    values, rows = list(values), []
    for i, j in OPPOSITE_POINTS:
        if (sparser := _butterfly(matrix.T, i, j)) is not None:
            matrix = sparser.T
            values[i], values[j] = values[i] + values[j], values[i] - values[j]
        elif (sparser := _butterfly(matrix, i, j)) is not None:
            matrix = sparser
            rows.append((i, j))
    results = [_weighted_sum(row, values) for row in matrix]
    for i, j in rows:
        results[i], results[j] = results[i] + results[j], results[i] - results[j]
    return results


def _butterfly(matrix: np.ndarray, i: int, j: int) -> np.ndarray | None:
    """Replaces two rows of points by half their sum and half their difference, if more are zero."""
    if len(matrix) != TILE_IN:
        return None
    halved = np.array(matrix, float)
    halved[i], halved[j] = (matrix[i] + matrix[j]) / 2, (matrix[i] - matrix[j]) / 2
    return halved if np.count_nonzero(halved) < np.count_nonzero(matrix) else None


def _weighted_sum(weights: np.ndarray, values: Sequence[jax.Array]) -> jax.Array:
    terms = [v if w == 1 else float(w) * v for w, v in zip(weights, values, strict=True) if w]
    return sum(terms[1:], start=terms[0])
