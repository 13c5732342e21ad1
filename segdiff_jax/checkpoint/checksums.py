"""Checksums of arrays: what a checkpoint held when it was written, to be held against what is read.

Orbax notices files that are missing or cut, but restores an array with a flipped bit in silence.
"""

import zlib
from typing import Any

import jax
import numpy as np

Tree = Any


Sums = dict[str, list[Any]]  # path of a leaf -> [shape, dtype, CRC-32 of its bytes], as JSON has it


class NotFiniteError(ValueError):
    """A leaf holds a value that is not finite; the message is its path."""


def of(tree: Tree, *, finite: bool = False) -> Sums:
    """Returns the checksum of every leaf; arrays on devices are replicated, one copy is read.

    Args:
      tree: of arrays.
      finite: whether to look that all values are.

    Raises:
      NotFiniteError: they are not.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): _of_leaf(_name(path), leaf, finite) for path, leaf in leaves}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path)


def _of_leaf(path: str, leaf: Any, finite: bool) -> list[Any]:
    host = np.asarray(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)
    if finite and not np.isfinite(host).all():
        raise NotFiniteError(path)
    crc = zlib.crc32(np.ascontiguousarray(host).reshape(-1).view(np.uint8))
    return [list(host.shape), str(host.dtype), crc]


def same_shapes(sums: Sums, like: Tree) -> bool:
    """Whether the leaves are those of `like` (anything with shapes and dtypes)."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(like)
    wanted = {_name(p): [list(x.shape), str(x.dtype)] for p, x in leaves}
    return wanted == {path: entry[:2] for path, entry in sums.items()}


def differing(sums: Sums, tree: Tree) -> list[str]:
    """Returns the paths of leaves that are not what they were."""
    found = of(tree)
    return [path for path in sums.keys() | found.keys() if sums.get(path) != found.get(path)]
