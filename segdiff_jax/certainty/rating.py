"""Rates masks from elsewhere: their predicted Dice, and how surprising each is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from segdiff_jax import metrics
from segdiff_jax.certainty.evidence import Evidence, agreement
from segdiff_jax.certainty.regression import Linear, logistic
from segdiff_jax.certainty.spoiling import spoil
from segdiff_jax.evaluation.sample_scores import pairwise_dice

RIGHT = "right"
FEWEST = 8  # pictures of a fit
_MOST_ODDS = 6.0  # to which log odds are cut: no single pixel proves anything
_ROOM = 0.01  # added to a difference of Dice before its logarithm is taken


def surprise(found: Evidence, values: Mapping[str, float]) -> float:
    """Returns how much less the samples agree with a mask than with each other, in -1..1.

    The mean Dice of each pair of samples less the mean Dice of the mask with a sample; of passes
    where there are no samples. Near 0 for a mask that may be one of them; nan without either.

    Args:
      found: the evidence of the picture.
      values: of the mask, see `evidence.agreement`.
    """
    if found.decisions is not None:
        return values["between"] - values["samples"]
    if len(found.passes) < 2:
        return float("nan")
    return pairwise_dice(found.passes > 0.5) - values["passes"]


def suspect_features(
    found: Evidence, mask: np.ndarray, values: Mapping[str, float]
) -> dict[str, float]:
    """Returns what shows that an annotation is wrong; `values` as of `surprise`.

    surprise: see `surprise`, on a logarithmic scale.
    region: evidence against the mask of the connected region with most of it: the root of the sum
      of the cut log odds over its pixels.
    against: the same of all pixels, divided by the length of the outline.
    """
    log_odds = _log_odds(found.probability)
    against = np.where(mask, -log_odds, log_odds)  # above 0 where the map has the other class
    differs = against > 0
    labels = metrics.regions(differs)
    sums = np.bincount(labels.ravel(), (against * differs).ravel())[1:]
    outline = 1 + float(np.count_nonzero(metrics.boundary(mask)))
    given = surprise(found, values)
    features = {
        "region": float(np.sqrt(sums.max(initial=0.0))),
        "against": float(np.log1p(sums.sum() / outline)),
    }
    return features if np.isnan(given) else features | {"surprise": _log(given)}


def spoilt_features(
    found: Evidence, truth: np.ndarray, other: np.ndarray | None, seed: int
) -> dict[str, dict[str, float]]:
    """Returns the features of an annotation, `RIGHT`, and of spoilt copies of it, by kind."""
    masks = {RIGHT: np.asarray(truth, bool)} | spoil(truth, other, seed)
    return {
        kind: suspect_features(found, mask, agreement(found, mask)) for kind, mask in masks.items()
    }


def other_masks(
    found: Evidence, other: np.ndarray | None, seed: int
) -> list[tuple[np.ndarray, bool]]:
    """Returns masks of a picture, good and bad, from which the Dice of any mask is learnt.

    The predicted mask, those of a pass, a sample and a decision, which are likely ones, and spoilt
    copies of the first, which are not.

    Args:
      found: the evidence of the picture.
      other: annotation of another picture; None: there is none.
      seed: of the choices.
    """
    own = found.probability > 0.5
    masks = [own, found.passes[-1] > 0.5]
    masks += [of[0] for of in (found.samples, found.decisions) if of is not None]
    spoilt = spoil(own, other, seed).values()
    return [*((mask, True) for mask in masks), *((mask, False) for mask in spoilt)]


def fit(pictures: Sequence[Mapping[str, Mapping[str, float]]]) -> Linear | None:
    """Fits the log odds that an annotation is wrong, if a tenth are; None: too few pictures.

    Args:
      pictures: `spoilt_features` of each. All kinds count alike.
    """
    if len(pictures) < FEWEST:
        return None
    rows = [(kind, of) for picture in pictures for kind, of in picture.items()]
    wrong = np.array([kind != RIGHT for kind, _ in rows])
    if not wrong.any():
        return None
    names = set.intersection(*(set(of) for _, of in rows))
    features = {name: np.array([of[name] for _, of in rows]) for name in names}
    line = logistic(features, wrong)
    share = float(np.mean(wrong))
    return line._replace(offset=line.offset + np.log(1 / 9) - np.log(share / (1 - share)))


class Rating(NamedTuple):
    """How a mask compares with what the model expects.

    Attributes:
      surprise: see `surprise`.
      suspicion: probability that the annotation is wrong, if a tenth are; nan: not calibrated.
    """

    surprise: float
    suspicion: float


def rate(
    found: Evidence, mask: np.ndarray, values: Mapping[str, float], line: Linear | None
) -> Rating:
    """Rates a mask [H, W] of a picture; `values` as of `surprise`, `line` is a fit of `fit`."""
    suspicion = float("nan")
    if line is not None:
        suspicion = float(special.expit(line(suspect_features(found, mask, values))))
    return Rating(surprise(found, values), suspicion)


def doubt(found: Evidence, mask: np.ndarray) -> np.ndarray:
    """Returns where the samples disagree with a mask, [H, W] in 0..1; the map without samples."""
    share = found.probability if found.decisions is None else found.decisions.mean(axis=0)
    return np.abs(share - np.asarray(mask, bool)).astype(np.float32)


def _log_odds(probability: np.ndarray) -> np.ndarray:
    p = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.clip(np.log(p / (1 - p)), -_MOST_ODDS, _MOST_ODDS)


def _log(surprise: float) -> float:
    return float(np.log(_ROOM + max(surprise, 0.0)))
