"""Calibrates the probability of pixels, and the threshold of the mask, on annotated pictures.

Platt scaling: the log odds become slope x log odds + offset, of the greatest likelihood; an offset
of 0 would be the temperature 1 / slope. The order of the pixels of a picture stays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from segdiff_jax.evaluation.pixel_scores import LEAST, LEVELS, probability_of_levels

_THRESHOLDS = 99
_BOUNDS = (0.1, 10.0), (-5.0, 5.0)  # of slope and offset: few pixels prove no more


class PixelModel(NamedTuple):
    """A fit of the probability of pixels.

    Attributes:
      slope, offset: of the log odds.
      threshold: of the calibrated probability, of the best mean Dice.
      n: pictures of the fit.
    """

    slope: float
    offset: float
    threshold: float
    n: int

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Returns the calibrated probability of probabilities [...] in 0..1, of the same type."""
        p = np.clip(np.asarray(probability, np.float64), LEAST, 1 - LEAST)
        z = self.slope * np.log(p / (1 - p)) + self.offset
        return special.expit(z).astype(np.asarray(probability).dtype)


def fit(counts: Sequence[np.ndarray]) -> PixelModel | None:
    """Fits the pictures' pixels, each [2, LEVELS] by (foreground, level); None without any."""
    total = np.sum(np.stack(counts), axis=0, dtype=np.float64) if counts else np.zeros((2, LEVELS))
    if not total.sum(axis=1).all():
        return None
    p = probability_of_levels()
    z, share = np.log(p / (1 - p)), total / total.sum()

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        odds = beta[0] * z + beta[1]
        q = special.expit(odds)
        nll = share.sum(axis=0) @ np.logaddexp(0, odds) - share[1] @ odds
        apart = share.sum(axis=0) * q - share[1]
        return float(nll), np.array([apart @ z, apart.sum()])

    start = np.array([1.0, 0.0])
    from scipy import optimize  # slow to import, and only a fit needs it

    beta = optimize.minimize(loss, start, jac=True, bounds=_BOUNDS, method="L-BFGS-B").x
    model = PixelModel(float(beta[0]), float(beta[1]), 0.5, len(counts))
    return model._replace(threshold=best_threshold(counts, model(p)))


def best_threshold(counts: Sequence[np.ndarray], probability: np.ndarray) -> float:
    """Returns the threshold of the best mean Dice, of hundredths; the nearest to 1/2 of equals.

    Args:
      counts: of each picture, see `fit`.
      probability: of each level, [LEVELS], not falling.
    """
    thresholds = np.arange(1, _THRESHOLDS + 1) / (_THRESHOLDS + 1)
    first = np.searchsorted(probability, thresholds, side="right")  # of the levels above
    dice = np.zeros(len(thresholds))
    for background, foreground in counts:
        false, true = (
            np.concatenate([np.cumsum(of[::-1])[::-1], [0]])[first]
            for of in (background, foreground)
        )
        both = true + false + foreground.sum()
        dice += np.where(both > 0, 2 * true / np.maximum(both, 1), 1.0)
    near = np.abs(thresholds - 0.5)
    return float(thresholds[np.lexsort((near, -np.round(dice, 9)))[0]])
