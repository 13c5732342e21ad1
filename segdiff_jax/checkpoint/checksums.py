"""Computes checksums of arrays, to detect values that changed between writing and reading.

Orbax notices files that are missing or truncated, but restores an array with a flipped bit without
an error.
"""

import zlib
from typing import Any

import jax
import numpy as np

Tree = Any
Sums = dict[str, list[Any]]  # path of a leaf -> [shape, dtype, CRC-32 of its bytes], as in JSON


class NotFiniteError(ValueError):
    """A leaf holds NaN or an infinity; the message is its path."""


def compute(tree: Tree, *, finite: bool = False) -> Sums:
    """Returns the checksum of every leaf; of arrays on devices, which are replicated, one copy.

    Args:
      tree: of arrays.
      finite: whether to check that all values are finite.

    Raises:
      NotFiniteError: they are not.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): _leaf_sum(_name(path), leaf, finite) for path, leaf in leaves}


def same_shapes(sums: Sums, like: Tree) -> bool:
    """Whether paths, shapes and dtypes are those of `like`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(like)
    wanted = {_name(p): [list(x.shape), str(x.dtype)] for p, x in leaves}
    return wanted == {path: entry[:2] for path, entry in sums.items()}


def differing(sums: Sums, tree: Tree) -> list[str]:
    """Returns the paths of the leaves whose checksum is not that of `sums`."""
    found = compute(tree)
    return [path for path in sums.keys() | found.keys() if sums.get(path) != found.get(path)]


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path)


def _leaf_sum(path: str, leaf: Any, finite: bool) -> list[Any]:
    host = np.asarray(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)
    if finite and not np.isfinite(host).all():
        raise NotFiniteError(path)
    crc = zlib.crc32(np.ascontiguousarray(host).reshape(-1).view(np.uint8))
    return [list(host.shape), str(host.dtype), crc]
