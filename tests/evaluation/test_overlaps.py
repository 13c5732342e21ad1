"""Overlaps of objects: by brute force over all pairs."""

import itertools

import numpy as np
import pytest
from object_scenes import scene

from segdiff_jax.evaluation.overlaps import overlaps, sequential


@pytest.mark.parametrize("labels", [np.array([[0, 7, 7], [3, 0, 2**31 - 1]]), np.full((2, 2), 4)])
def test_sequential_labels_keep_objects_and_their_order(labels):
    new, values = sequential(labels), np.unique(labels[labels > 0])
    for number, value in enumerate(values, start=1):
        np.testing.assert_array_equal(new == number, labels == value)
    np.testing.assert_array_equal(new == 0, labels == 0)


def test_overlaps_are_those_of_all_pairs():
    found, true = (sequential(one) for one in scene(5))
    of = overlaps(true, found)
    got = {(t, p): (n, x) for t, p, n, x in zip(*of[:4], strict=True)}
    for t, p in itertools.product(range(1, true.max() + 1), range(1, found.max() + 1)):
        both, either = ((true == t) & (found == p)).sum(), ((true == t) | (found == p)).sum()
        assert got.get((t, p), (0, 0)) == (both, both / either)
