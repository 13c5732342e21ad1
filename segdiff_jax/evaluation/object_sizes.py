"""Measures how large objects and pixels of pictures are, and whether others are far from that."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from segdiff_jax.data.example import Example
from segdiff_jax.evaluation.labelling import of_truth

MOST = 500  # pictures that are measured, evenly spaced
FEWEST = 5  # objects of a picture whose size is compared
APART = 1.1  # times as large as others are pixels that are not of one size
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


def pixel_size(examples: Sequence[Example]) -> float:
    """Returns the median side of a pixel of those examples that state one, micrometres.

    Rounded to six digits; 0 where fewer than half of them do. Those that differ get a line.
    """
    known = [one.pixel_size for one in examples if one.pixel_size > 0]
    if not known or 2 * len(known) < len(examples):
        return 0.0
    median = float(f"{np.median(known):.6g}")
    if max(known) > APART * min(known):
        found = f"{min(known):.4g} to {max(known):.4g} um, half of them at most {median:.4g}"
        logging.warning("the pixels of the images to train on measure %s", found)
    return median


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
