"""Selects nested subsets of the training images for experiments with fewer of them."""

import hashlib
from collections.abc import Sequence

from segdiff_jax.data.example import Example
from segdiff_jax.errors import UserError


def nested_subset(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Returns the first `count` examples in the order of the hashes of seed and name.

    A subset of 10 is part of that of 20, and adding an image to the set moves no other.

    Args:
        examples: of a split, with unique names.
        count: of the subset; 0: all examples.
        seed: of the order.

    Returns:
        `count` examples, in the order of the arguments.

    Raises:
        UserError: there are fewer examples.
    """
    if count > len(examples):
        raise UserError(
            f"config.data.train_images={count}: must be at most {len(examples)}, the number of "
            "images of config.data.train_split, or 0 for all"
        )
    if not count:
        return list(examples)

    def rank(i: int) -> bytes:
        return hashlib.sha256(f"{seed}:{examples[i].name}".encode()).digest()

    return [examples[i] for i in sorted(sorted(range(len(examples)), key=rank)[:count])]
