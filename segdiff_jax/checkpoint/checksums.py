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

    Raises:
      NotFiniteError: a value is not finite, where `finite`.
    """
    return {path: _leaf_sum(path, leaf, finite) for path, leaf in _leaves(tree)}


def same_shapes(sums: Sums, like: Tree) -> bool:
    """Whether paths, shapes and dtypes are those of `like`."""
    wanted = {path: [list(x.shape), str(x.dtype)] for path, x in _leaves(like)}
    return wanted == {path: entry[:2] for path, entry in sums.items()}


def differing(sums: Sums, tree: Tree) -> list[str]:
    """Returns the paths of the leaves whose checksum is not that of `sums`."""
    found = compute(tree)
    return [path for path in sums.keys() | found.keys() if sums.get(path) != found.get(path)]


def _leaves(tree: Tree) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), x) for path, x in jax.tree.leaves_with_path(tree)]


def _leaf_sum(path: str, leaf: Any, finite: bool) -> list[Any]:
    host = np.asarray(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)
    if finite and not np.isfinite(host).all():
        raise NotFiniteError(path)
    crc = zlib.crc32(np.ascontiguousarray(host).reshape(-1).view(np.uint8))
    return [list(host.shape), str(host.dtype), crc]
