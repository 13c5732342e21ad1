"""Products of matrices in the order that XLA's CPU compiler is fast at."""

from typing import Any

import jax

MOST_ROWS = 128  # of a product over rows that stay cached


def transposed_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """[N, P, C] and [N, P, D] -> [N, C, D], sums over P.

    XLA's CPU library does not take products over rows, and what does is faster where the narrow
    ones come first. It is made so, or the compiler would turn it back.
    """
    if a.shape[-1] > b.shape[-1]:
        return optimization_barrier(transposed_product(b, a)).swapaxes(1, 2)
    return jax.lax.dot_general(a, b, (((1,), (1,)), ((0,), (0,))))


@jax.custom_vjp
def product(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """[P, C] and [C, D] -> [P, D]; its gradient in the kernel is summed over groups of rows."""
    return rows @ kernel


def _product_backward(
    kept: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    rows, kernel = kept
    together = MOST_ROWS if len(rows) % MOST_ROWS == 0 else len(rows)
    groups = [values.reshape(-1, together, values.shape[-1]) for values in (rows, dy)]
    return dy @ kernel.T, transposed_product(*groups).sum(0)


product.defvjp(lambda rows, kernel: (rows @ kernel, (rows, kernel)), _product_backward)


Tree = Any  # of arrays


# Where one stands, XLA would compute a number of a channel anew for each pixel of each map that
# reads it: on a CPU a norm of groups of two to four channels took 2 to 6 times as long.
optimization_barrier = jax.lax.optimization_barrier


def materialize(x: Tree) -> Tree:
    """Returns x, maps of which a CPU is to compute each by itself.

    XLA would compute it anew in each pass over the maps that reads it.
    """
    return optimization_barrier(x) if jax.default_backend() == "cpu" else x
