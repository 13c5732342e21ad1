"""Lists which objects of two labelled masks overlap, by how much."""

from typing import NamedTuple

import numpy as np


def sequential(labels: np.ndarray) -> np.ndarray:
    """Returns labels [H, W], 0 for background, with the numbers 1..N in the same order, int64."""
    values, index = np.unique(labels, return_inverse=True)
    return index.reshape(labels.shape) + int(values.size > 0 and values[0] > 0)


class Overlaps(NamedTuple):
    """The pairs of objects of two masks that share pixels.

    Attributes:
      first, second: [P] labels, from 1, of the pairs.
      shared: [P] pixels that both have.
      iou: [P], of each pair.
      first_area, second_area: [N + 1] and [M + 1] pixels by label, 0 is background.
    """

    first: np.ndarray
    second: np.ndarray
    shared: np.ndarray
    iou: np.ndarray
    first_area: np.ndarray
    second_area: np.ndarray


def overlaps(first: np.ndarray, second: np.ndarray) -> Overlaps:
    """Returns the overlaps of two masks [H, W] of labels 0..N and 0..M.

    Only pairs that overlap are listed: a table of all of 10,000 objects takes a gigabyte.
    """
    first_area, second_area = np.bincount(first.ravel()), np.bincount(second.ravel())
    both = (first > 0) & (second > 0)
    pairs = first[both].astype(np.int64) * second_area.size + second[both]
    pairs, shared = np.unique(pairs, return_counts=True)
    one, other = np.divmod(pairs, second_area.size)
    iou = shared / (first_area[one] + second_area[other] - shared)
    return Overlaps(one, other, shared, iou, first_area, second_area)
