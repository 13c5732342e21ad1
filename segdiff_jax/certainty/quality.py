"""Predicts the Dice of a mask from how it agrees with the evidence, with an interval.

A ridge regression on the logarithms of disagreement, so that a doubtful picture gets a wide
interval by itself. Its interval is conformal, of errors that each picture has in the fit of the
others (the jackknife), after the conformal ranges of Wundram et al. (arXiv 2407.13307).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from segdiff_jax.certainty import conformal
from segdiff_jax.certainty.regression import Linear, ridge

LEVEL = 0.8  # of the interval that is shown
LEAST = 0.01  # added to 1 - Dice before its logarithm is taken
FEWEST = 8  # pictures of a fit


class Quality(NamedTuple):
    """The predicted Dice of a mask.

    Attributes:
      dice: in 0..1; nan if the run is not calibrated.
      low, high: the 80 % interval; nan where there are too few pictures for it.
    """

    dice: float
    low: float
    high: float


class QualityModel(NamedTuple):
    """A fit of the Dice.

    Attributes:
      line: of log(1.01 - Dice).
      width: conformal quantile of its absolute error, by level; None: too few pictures.
      n: pictures of the fit.
    """

    line: Linear
    width: dict[float, float | None]
    n: int

    def __call__(self, agreement: Mapping[str, float], level: float = LEVEL) -> Quality:
        """Predicts the Dice of a mask by its `evidence.agreement`."""
        value, width = float(self.line(_features(agreement))), self.width[level]
        if width is None:
            return Quality(_dice(value), float("nan"), float("nan"))
        return Quality(_dice(value), _dice(value + width), _dice(value - width))


def fit(
    agreements: Sequence[Mapping[str, float]],
    dice: Sequence[float],
    picture: Sequence[int] | None = None,
    likely: Sequence[bool] | None = None,
) -> QualityModel | None:
    """Fits the Dice of masks of annotated pictures.

    Args:
      agreements: of each mask with the evidence of its picture.
      dice: of each mask with the truth.
      picture: number of each mask's picture; None: one of each.
      likely: which masks the interval is made for: it holds the worst of a picture's; None: all.

    Returns:
      The fit; None if there are fewer than `FEWEST` pictures.
    """
    number = np.arange(len(dice)) if picture is None else np.asarray(picture)
    pictures = np.unique(number)
    if len(pictures) < FEWEST:
        return None
    rows = [_features(one) for one in agreements]
    features = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    target = _doubt(np.asarray(dice, np.float64))
    errors, kept = [], np.ones(len(target), bool) if likely is None else np.asarray(likely)
    for one in pictures:
        out = number == one
        line = ridge({name: of[~out] for name, of in features.items()}, target[~out])
        left = line({name: of[out] for name, of in features.items()})
        errors.append(np.max(np.abs(left - target[out])[kept[out]], initial=0.0))
    width = conformal.quantiles(np.array(errors))
    return QualityModel(ridge(features, target), width, len(pictures))


def _features(agreement: Mapping[str, float]) -> dict[str, float]:
    return {name: float(_doubt(np.asarray(value))) for name, value in agreement.items()}


def _doubt(dice: np.ndarray) -> np.ndarray:
    return np.log(1 + LEAST - np.clip(dice, 0, 1))


def _dice(doubt: float) -> float:
    return float(np.clip(1 + LEAST - np.exp(doubt), 0, 1))
