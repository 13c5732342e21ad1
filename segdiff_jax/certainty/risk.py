"""Inner and outer masks whose risk is bounded on average, by conformal risk control.

The outer mask misses at most the share alpha of the foreground of a picture, on average; of the
inner one at most the share alpha is not foreground. Both are thresholds of the probability, chosen
so that the mean loss of n annotated pictures, and a loss of 1 of one more, is at most alpha: then a
new picture's expected loss is, too (Angelopoulos, Bates, Fisch, Lei and Schuster, ICLR 2024).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segdiff_jax.evaluation.pixel_scores import LEVELS, probability_of_levels

THRESHOLDS = 512
_EACH = LEVELS // THRESHOLDS  # levels of a step


class RiskModel(NamedTuple):
    """Mean losses of annotated pictures by threshold, see `thresholds`.

    Attributes:
      missed: [THRESHOLDS + 1], share of the foreground that a mask misses; it rises.
      false: [THRESHOLDS + 1], share of a mask that is not foreground, made not to rise.
      n: pictures.
    """

    missed: tuple[float, ...]
    false: tuple[float, ...]
    n: int

    def outer(self, alpha: float) -> float | None:
        """Returns the threshold above which a pixel is in the outer mask; None: n is too small."""
        kept = np.flatnonzero(self._bounded(self.missed, alpha))
        return float(thresholds()[kept[-1]]) if len(kept) else None

    def inner(self, alpha: float) -> float | None:
        """Returns the threshold above which a pixel is in the inner mask; None: n is too small."""
        kept = np.flatnonzero(self._bounded(self.false, alpha))
        return float(thresholds()[kept[0]]) if len(kept) else None

    def _bounded(self, loss: Sequence[float], alpha: float) -> np.ndarray:
        return (self.n * np.array(loss) + 1) / (self.n + 1) <= alpha


def thresholds() -> np.ndarray:
    """Returns the thresholds of the probability, [THRESHOLDS + 1], from 0 to 1."""
    p = probability_of_levels().reshape(THRESHOLDS, _EACH)
    edges = (p[1:, 0] + p[:-1, -1]) / 2
    return np.concatenate([[0.0], edges, [1.0]])


def fit(counts: Sequence[np.ndarray]) -> RiskModel | None:
    """Fits the pictures' pixels, each [2, LEVELS] by (foreground, level); None without any."""
    if not counts:
        return None
    of_pictures = zip(*map(_losses, counts), strict=True)
    missed, false = (tuple(map(float, np.mean(loss, axis=0))) for loss in of_pictures)
    return RiskModel(missed, false, len(counts))


def losses(counts: np.ndarray, outer: float, inner: float) -> tuple[float, float]:
    """Returns the missed share of an outer mask, and the false share of an inner one.

    Args:
      counts: of a picture, [2, LEVELS] by (foreground, level).
      outer: threshold of the outer mask.
      inner: threshold of the inner mask.
    """
    p = probability_of_levels()
    background, foreground = counts
    missed = foreground[p <= outer].sum() / max(foreground.sum(), 1)
    inside = counts[:, p > inner].sum()
    return float(missed), float(background[p > inner].sum() / max(inside, 1))


def _losses(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the losses of a picture by threshold, [THRESHOLDS + 1] each."""
    steps = counts.reshape(2, THRESHOLDS, _EACH).sum(axis=-1)
    above = np.concatenate([np.cumsum(steps[:, ::-1], axis=1)[:, ::-1], np.zeros((2, 1))], axis=1)
    missed = 1 - above[1] / max(steps[1].sum(), 1) if steps[1].sum() else np.zeros(THRESHOLDS + 1)
    false = above[0] / np.maximum(above.sum(axis=0), 1)
    return missed, np.maximum.accumulate(false[::-1])[::-1]  # a higher threshold is never worse
