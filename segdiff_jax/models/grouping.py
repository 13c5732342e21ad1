"""Images in groups, one group after the other: what is made of a group stays in the cache. NHWC."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

MOST_PIXELS = 64 * 64  # of images that are turned into planes together: so many are cached

Tree = Any  # of arrays


def grouped(maps: Tree, most: int = MOST_PIXELS) -> Tree:
    """Returns [groups, images, H, W, C] of [B, H, W, C]: images to be turned into planes together.

    All are one group where they are no whole number of groups.

    Args:
      maps: of as many images each.
      most: pixels of a group, but for a single image, which may have more.
    """
    B, H, W = jax.tree.leaves(maps)[0].shape[:3]
    together = max(1, most // (H * W))
    together = B if B % together else together
    return jax.tree.map(lambda x: x.reshape(B // together, together, *x.shape[1:]), maps)


def each(of: Callable[[Tree], Tree], groups: Tree) -> Tree:
    """Returns what a function makes of each group, [images, H, W, C] -> the same, as [B, ...]."""
    return summed(lambda group: ((), of(group)), groups)[1]


def summed(of: Callable[[Tree], tuple[Tree, Tree]], groups: Tree) -> tuple[Tree, Tree]:
    """Returns the sum over groups of what a function returns first, and `each` of the second."""
    first = jax.tree.map(lambda x: x[0], groups)
    if len(jax.tree.leaves(groups)[0]) == 1:
        return of(first)

    def add(sums: Tree, group: Tree) -> tuple[Tree, Tree]:
        more, made = of(group)
        return jax.tree.map(jnp.add, sums, more), made

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of, first)[0])
    sums, made = jax.lax.scan(add, zeros, groups)
    return sums, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), made)
