"""A checksum of each example that changes with whatever training sees of it."""

import numpy as np

from segdiff_jax.data.digests import digests
from segdiff_jax.data.example import Example, majority


def example(name="a", seed=0, shape=(4, 6)):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    return Example(image, rng.integers(0, 2, shape).astype(np.uint8), name)


def test_equal_examples_have_equal_checksums_whatever_their_memory_is():
    one = example()
    same = one._replace(image=np.asfortranarray(one.image), mask=one.mask[:, ::-1].copy()[:, ::-1])
    assert digests([one]) == digests([same]) == {"a": digests([example("b")])["b"]}


def test_every_change_of_an_example_changes_its_checksum():
    one = example()
    flipped = one.mask.copy()
    flipped[3, 5] ^= 1
    brighter = one.image.copy()
    brighter[0, 0, 2] ^= 1
    masks = np.stack([one.mask, flipped])
    variants = [
        one,
        one._replace(mask=flipped),
        one._replace(mask=1 - one.mask),
        one._replace(image=brighter),
        one._replace(image=one.image.reshape(6, 4, 3), mask=one.mask.reshape(6, 4)),
        one._replace(box=(0, 0, 4, 6)),
        one._replace(box=(0, 0, 4, 5)),
        one._replace(group="car"),
        one._replace(mask=majority(masks), annotations=masks),
        one._replace(mask=majority(masks), annotations=masks[::-1]),
    ]
    assert len({digests([variant])["a"] for variant in variants}) == len(variants)


def test_a_name_that_occurs_twice_is_counted():
    found = digests([example("a", 0), example("b", 1), example("a", 2), example("a", 0)])
    assert list(found) == ["a", "b", "a (2)", "a (3)"] and found["a"] == found["a (3)"]


def test_the_classes_of_a_mask_count():
    image, mask = np.zeros((4, 5, 3), np.uint8), np.ones((4, 5), np.uint8)
    plain = Example(image, mask, "a")
    found = [digests([plain._replace(classes=of)])["a"] for of in (None, mask, 2 * mask)]
    assert len(set(found)) == 3
