"""A mean and its gradient, of many terms one after the other, in the memory of one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any  # of arrays
Term = Callable[[Tree, jax.Array], tuple[jax.Array, Tree]]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def mean_in_turn(term: Term, given: Tree, keys: jax.Array) -> tuple[jax.Array, Tree]:
    """The mean of a term over keys, whose gradient is gathered as the terms are computed.

    Nothing of a term outlives it, where a loop that is differentiated keeps what all terms need
    for their gradients.

    Args:
      term: (given, key) -> (value [], anything else). What else it knows must not depend on what
        the result is differentiated in.
      given: arrays of float32 or bfloat16, in which the mean can be differentiated; what they
        gather is float32.
      keys: [n, ...], of what is random in each term.

    Returns:
      (mean [], anything else of all terms, [n, ...]); only the mean has a gradient.
    """
    values, rest = jax.lax.map(partial(term, given), keys)
    return jnp.mean(values), rest


def _forward(
    term: Term, given: Tree, keys: jax.Array
) -> tuple[tuple[jax.Array, Tree], tuple[Tree, jax.Array]]:
    valued = jax.value_and_grad(term, has_aux=True)

    def add(sums: tuple[jax.Array, Tree], key: jax.Array) -> tuple[tuple[jax.Array, Tree], Tree]:
        (value, rest), gradient = valued(given, key)
        return jax.tree.map(jnp.add, sums, (value, gradient)), rest

    # bfloat16 would lose what many terms add
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), given)
    (value, gradient), rest = jax.lax.scan(add, (jnp.zeros(()), zeros), keys)
    mean = jax.tree.map(lambda sums, leaf: (sums / len(keys)).astype(leaf.dtype), gradient, given)
    return (value / len(keys), rest), (mean, keys)


def _backward(
    term: Term, kept: tuple[Tree, jax.Array], of: tuple[jax.Array, Tree]
) -> tuple[Tree, np.ndarray]:
    gradient, keys = kept
    scaled = jax.tree.map(lambda leaf: leaf * of[0].astype(leaf.dtype), gradient)
    return scaled, np.zeros(keys.shape, jax.dtypes.float0)


mean_in_turn.defvjp(_forward, _backward)
