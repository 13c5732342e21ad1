"""Fewer training images, chosen so that a smaller set is part of every larger one."""

import hashlib
from collections.abc import Sequence

from segdiff_jax.data.example import Example
from segdiff_jax.errors import UserError


def nested_subset(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Returns the first examples of an order that depends on the seed and their names alone.

    The order is that of the hashes of seed and name, so the choice of 10 is part of that of 20,
    and an image that is added to the set moves no other.

    Args:
        examples: of a split, with names that differ.
        count: how many of them; 0: all, as they are.
        seed: of the order.

    Returns:
        `count` examples, in the order they were given in.

    Raises:
        UserError: there are not so many.
    """
    if count > len(examples):
        raise UserError(
            f"config.data.train_images={count}: must be at most {len(examples)}, the number of "
            "images of config.data.train_split, or 0 for all"
        )
    if not count:
        return list(examples)

    def place(i: int) -> bytes:
        return hashlib.sha256(f"{seed}:{examples[i].name}".encode()).digest()

    return [examples[i] for i in sorted(sorted(range(len(examples)), key=place)[:count])]
