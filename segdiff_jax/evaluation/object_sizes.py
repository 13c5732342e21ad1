"""Measures how large the objects of pictures are, and whether others are far from that."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segdiff_jax.data.example import Example
from segdiff_jax.evaluation.labelling import of_truth

MOST = 500  # pictures that are measured, evenly spaced
FEWEST = 5  # objects of a picture whose size is compared
FAR = 2.0  # times as large, or as small


class Sizes(NamedTuple):
    """The objects of several pictures; of those to train on a run keeps it as `data.objects`.

    Attributes:
      diameter: median of the diameters of circles of their areas, pixels; 0: there are no objects.
      count: mean number in a picture.
    """

    diameter: float
    count: float


def diameters(labels: np.ndarray) -> np.ndarray:
    """Returns the equivalent diameter 2 sqrt(area / pi) of each object of labels 0..N, [N]."""
    return 2 * np.sqrt(np.bincount(labels.ravel(), minlength=1)[1:] / np.pi)


def typical(examples: Sequence[Example]) -> Sizes:
    """Returns the sizes of the objects of examples, by their labels or else their components."""
    some = examples[:: -(-len(examples) // MOST)] if examples else []
    found = [diameters(of_truth(one.mask, one.objects)) for one in some]
    joined = np.concatenate([*found, np.zeros(0)])
    if not len(joined):
        return Sizes(0.0, 0.0)
    return Sizes(float(np.median(joined)), len(joined) / len(some))


def factor(labels: np.ndarray, trained: float) -> float | None:
    """Returns the scale that brings the objects of a picture to those of the training.

    Args:
      labels: [H, W] of the objects that were found, 0..N.
      trained: their diameter there, pixels; 0: it is not known.

    Returns:
      trained / median diameter; None where it is not far from 1, or one of both is not known.
    """
    found = diameters(labels)
    if len(found) < FEWEST or trained <= 0:
        return None
    scale = trained / float(np.median(found))
    return scale if max(scale, 1 / scale) > FAR else None
