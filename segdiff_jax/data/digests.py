"""Computes a checksum of each example, so that a change of any of them is found."""

import hashlib
import json
from collections.abc import Iterable

import numpy as np

from segdiff_jax.data.example import Example

BYTES = 8  # of a checksum: chance makes no two of a set equal


def digests(examples: Iterable[Example]) -> dict[str, str]:
    """Returns the checksum of each example, of all that training sees of it, by its name.

    A name that occurs again, in a second split, gets a number.
    """
    found: dict[str, str] = {}
    for example in examples:
        name, number = example.name, 1
        while name in found:
            number += 1
            name = f"{example.name} ({number})"
        found[name] = _digest(example)
    return found


def _digest(example: Example) -> str:
    digest = hashlib.blake2b(digest_size=BYTES)
    digest.update(json.dumps([example.box, example.group]).encode())
    classes = () if example.classes is None else (example.classes,)
    for array in (example.image, example.masks, *classes):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
