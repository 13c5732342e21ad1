"""Labels the objects of a mask and lists which objects of two labelled masks overlap.

This is the one rule of what an object is: for tables, scores, confidences and counts.
"""

from typing import NamedTuple

import numpy as np

from segdiff_jax.metrics import regions

SMALLEST = 4  # pixels of a component that counts as an object
STRIP = 2**20  # pixels that are relabelled together: a whole copy would double the memory


def label(mask: np.ndarray) -> np.ndarray:
    """Labels the 4-connected components of `SMALLEST` pixels or more of a mask by 1..N, int64."""
    labels = regions(np.asarray(mask, bool))
    large = np.bincount(labels.ravel()) >= SMALLEST
    large[0] = False
    new = np.cumsum(large) * large
    step = max(1, STRIP // max(mask.shape[1], 1))
    for top in range(0, len(labels), step):
        labels[top : top + step] = new[labels[top : top + step]]
    return labels


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
    pairs, shared = np.unique(first[both] * second_area.size + second[both], return_counts=True)
    one, other = np.divmod(pairs, second_area.size)
    iou = shared / (first_area[one] + second_area[other] - shared)
    return Overlaps(one, other, shared, iou, first_area, second_area)
