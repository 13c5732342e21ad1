"""Arranges matrix products and fusions in the way XLA's CPU compiler is fast at."""

from typing import Any

import jax

CACHED_ROWS = 128  # of a matrix product over rows, so that they stay in the cache

Tree = Any  # of arrays

# Keeps XLA from fusing what is before it into each of its consumers. Without it a number of a
# channel is recomputed for every pixel of every map that reads it: on a CPU a norm of groups of two
# to four channels took 2 to 6 times as long.
optimization_barrier = jax.lax.optimization_barrier


def materialize(x: Tree) -> Tree:
    """Keeps XLA from fusing x into its consumers, where it would be recomputed. On a CPU only."""
    return optimization_barrier(x) if jax.default_backend() == "cpu" else x


def transposed_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Computes A^T B for each of a batch: [N, P, C] and [N, P, D] -> [N, C, D].

    XLA:CPU sends A^T B to Eigen, which is fastest with the narrower operand first; the barrier
    keeps XLA from swapping them back.
    """
    if a.shape[-1] > b.shape[-1]:
        return optimization_barrier(transposed_product(b, a)).swapaxes(1, 2)
    return jax.lax.dot_general(a, b, (((1,), (1,)), ((0,), (0,))))


@jax.custom_vjp
def matmul(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies [P, C] by [C, D] -> [P, D]; the kernel's gradient is summed chunk by chunk."""
    return rows @ kernel


def _matmul_backward(
    residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    rows, kernel = residuals
    size = CACHED_ROWS if len(rows) % CACHED_ROWS == 0 else len(rows)
    chunks = [values.reshape(-1, size, values.shape[-1]) for values in (rows, dy)]
    return dy @ kernel.T, transposed_product(*chunks).sum(0)


matmul.defvjp(lambda rows, kernel: (rows @ kernel, (rows, kernel)), _matmul_backward)
