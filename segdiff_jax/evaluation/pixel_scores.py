"""Scores the probability of pixels, over all pixels of all pictures or of the band at contours.

The background makes every score of whole pictures look good, so each is also computed of the band:
the pixels within `BAND` of a pixel of the other class. Pixels are counted by the level of their log
odds, so that sums over pictures and processes need little memory, and what a calibration of the
probability would change is known without another prediction.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from segdiff_jax.evaluation.ranking_scores import Detection, detection, removed

BAND = 3.0  # pixels
LEVELS = 2**12  # of the log odds: an error of at most 9e-4 of a probability
LEAST = 1e-6  # distance of a probability from 0 and 1
_END = float(np.log((1 - LEAST) / LEAST))
BINS = 15
DEFERRED = (0.05, 0.12, 0.25)


class PixelScores(NamedTuple):
    """Scores of pixels; shares in 0..1. nan where there are no pixels, or no errors.

    Attributes:
      pixels: how many.
      brier: mean squared error of the probability.
      nll: mean negative log likelihood, nats; probabilities are kept 1e-6 from 0 and 1.
      ece: expected calibration error, the mean over pixels of |share of foreground - mean
        probability| of the pixel's bin, of 15 equal bins (Naeini, Cooper and Hauskrecht, 2015).
      ace: the same with bins of equally many pixels (Nixon et al., 2019).
      detection: of wrong pixels by p (1 - p).
      removed: share of the errors among the 5, 12 and 25 % most uncertain pixels.
    """

    pixels: int
    brier: float
    nll: float
    ece: float
    ace: float
    detection: Detection
    removed: tuple[float, ...]


def band(truth: np.ndarray) -> np.ndarray:
    """Marks the pixels [H, W] within `BAND` of a pixel of the other class; none in a plain mask."""
    mask = np.asarray(truth, bool)
    if mask.all() or not mask.any():
        return np.zeros(mask.shape, bool)
    distances = [np.asarray(ndimage.distance_transform_edt(one)) for one in (mask, ~mask)]
    return np.maximum(*distances) <= BAND  # one of the two is 0


def count(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Counts the pixels of a picture: [2, 2, LEVELS] int32 by (in the band, foreground, level).

    Args:
      probability: [H, W] in 0..1.
      truth: mask [H, W].
    """
    mask, inside = np.asarray(truth, bool), band(truth)
    index = (2 * inside + mask) * LEVELS + level(probability)
    return np.bincount(index.ravel(), minlength=4 * LEVELS).reshape(2, 2, LEVELS).astype(np.int32)


def level(probability: np.ndarray) -> np.ndarray:
    """Returns the level of probabilities [...] in 0..1, int64: at least LEVELS / 2 above 1/2."""
    p = np.clip(np.asarray(probability, np.float64), LEAST, 1 - LEAST)
    position = (np.log(p / (1 - p)) + _END) / (2 * _END) * LEVELS
    return np.clip(np.ceil(position).astype(np.int64) - 1, 0, LEVELS - 1)


def probability_of_levels() -> np.ndarray:
    """Returns the probability in the middle of each level, [LEVELS]."""
    return 1 / (1 + np.exp(-((np.arange(LEVELS) + 0.5) / LEVELS * 2 - 1) * _END))


def scores(counts: np.ndarray, probability: np.ndarray | None = None) -> PixelScores:
    """Computes the scores of counted pixels [2, LEVELS] by (foreground, level).

    Args:
      counts: of the whole pictures, `count(...).sum(axis=0)`; of the band, `count(...)[1]`.
      probability: [LEVELS] that takes the place of each level's own, such as a calibrated one.
    """
    p = probability_of_levels() if probability is None else probability
    background, foreground = counts.astype(np.float64)
    both, total = background + foreground, counts.sum()
    if not total:
        nan = float("nan")
        nothing = Detection(nan, nan, nan)
        return PixelScores(0, nan, nan, nan, nan, nothing, (nan,) * len(DEFERRED))
    q = np.clip(p, LEAST, 1 - LEAST)
    wrong, right = np.where(p > 0.5, counts, counts[::-1])
    equal = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    middle = (np.cumsum(both) - both / 2) / total  # a level is never cut in two
    adaptive = np.minimum((middle * BINS).astype(np.int64), BINS - 1)
    return PixelScores(
        int(total),
        float(np.sum(foreground * (1 - p) ** 2 + background * p**2) / total),
        float(-np.sum(foreground * np.log(q) + background * np.log1p(-q)) / total),
        _calibration_error(p, foreground, both, equal),
        _calibration_error(p, foreground, both, adaptive),
        detection(p * (1 - p), wrong, right),
        tuple(removed(p * (1 - p), wrong, right, x) for x in DEFERRED),
    )


def bins(counts: np.ndarray, probability: np.ndarray | None = None) -> np.ndarray:
    """Returns [3, BINS]: sum of probabilities, foreground pixels, pixels; see `scores`."""
    p = probability_of_levels() if probability is None else probability
    place = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    both = counts.sum(axis=0)
    return np.stack([np.bincount(place, w, BINS) for w in (p * both, counts[1], both)])


def _calibration_error(
    p: np.ndarray, foreground: np.ndarray, both: np.ndarray, place: np.ndarray
) -> float:
    """Computes the mean over pixels of |share of foreground - mean p| of the bin of each level."""
    apart = np.bincount(place, foreground - p * both, BINS)
    return float(np.abs(apart).sum() / both.sum())
