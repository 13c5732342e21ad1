"""Scores prediction intervals against the truth: coverage, width and the interval score."""

from typing import NamedTuple

import numpy as np


class IntervalScores(NamedTuple):
    """Scores of intervals of one level over all pictures.

    Attributes:
      coverage: share of the truths within.
      width: mean.
      score: mean interval score; lower is better, in the units of the numbers.
    """

    coverage: float
    width: float
    score: float


def scores(low: np.ndarray, high: np.ndarray, truth: np.ndarray, level: float) -> IntervalScores:
    """Computes the scores of intervals [low, high], ends included.

    The interval score is the width and, for a truth outside, 2 / alpha times its distance, alpha =
    1 - level (Gneiting and Raftery, JASA 102, 2007, equation 43): best for the quantiles alpha / 2
    and 1 - alpha / 2 of the truth.

    Args:
      low: [n].
      high: [n].
      truth: [n].
      level: in 0..1.
    """
    low, high, truth = (np.asarray(x, np.float64) for x in (low, high, truth))
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    width = high - low
    return IntervalScores(
        float(np.mean(outside == 0)),
        float(np.mean(width)),
        float(np.mean(width + 2 / (1 - level) * outside)),
    )
