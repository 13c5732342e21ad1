"""The matrices of Winograd's planes, and their products with vectors of arrays."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

POINTS = 6
PAIRS = (1, 2), (3, 4)  # of the points: 1 and -1, 2 and -2

# the planes of 6 values, of 3 values of a kernel, and the 4 results of 6 planes, along one side
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
KERNELS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
RESULTS = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)


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
    if len(matrix) != POINTS:
        return None
    halved = np.array(matrix, float)
    halved[i], halved[j] = (matrix[i] + matrix[j]) / 2, (matrix[i] - matrix[j]) / 2
    return halved if np.count_nonzero(halved) < np.count_nonzero(matrix) else None


def _sum(row: np.ndarray, values: Sequence[jax.Array]) -> jax.Array:
    terms = [v if m == 1 else float(m) * v for m, v in zip(row, values, strict=True) if m]
    return sum(terms[1:], start=terms[0])
