"""Scores how well a number ranks what is wrong: pixels, objects or whole pictures; NumPy, SciPy.

Every function takes cases with weights, so that a histogram of millions of pixels is ranked as
fast as a hundred pictures: a case is a value and how many positives and negatives have it.
"""

from typing import NamedTuple

import numpy as np

RECALL = 0.95  # at which `false_positive_rate` is read


class Detection(NamedTuple):
    """How well a score finds the positives.

    Attributes:
      auroc: probability that a positive has a higher score than a negative; equal ones count half.
      aupr: average precision, the mean precision over the positives found.
      fpr95: share of negatives that are marked with the positives once 95 % of these are found.
    """

    auroc: float
    aupr: float
    fpr95: float


def detection(score: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> Detection:
    """Computes the scores of a detector; nan where there is no positive or no negative.

    Args:
      score: [N], higher for what is more likely positive.
      positive: [N], how many positives have it; of single cases a mask.
      negative: [N], likewise.
    """
    hits, alarms = _cumulated(score, positive, negative)
    if not hits[-1] or not alarms[-1]:
        return Detection(float("nan"), float("nan"), float("nan"))
    recall, fall_out = hits / hits[-1], alarms / alarms[-1]
    precision = hits[1:] / np.maximum(hits[1:] + alarms[1:], 1)
    return Detection(
        float(np.trapezoid(recall, fall_out)),
        float(np.sum(np.diff(recall) * precision)),
        float(fall_out[np.argmax(recall >= RECALL)]),
    )


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Returns the AUROC of scores [N] for a mask of positives [N]."""
    mask = np.asarray(positive, bool)
    return detection(score, mask, ~mask).auroc


def removed(uncertainty: np.ndarray, wrong: np.ndarray, right: np.ndarray, share: float) -> float:
    """Computes the share of errors among the most uncertain cases, which are deferred to a human.

    Of equally uncertain cases, errors and others are deferred in proportion. nan without errors.

    Args:
      uncertainty: [N].
      wrong: [N], how many errors have it; of single cases a mask.
      right: [N], likewise.
      share: of all cases that is deferred, in 0..1.
    """
    errors, others = _cumulated(uncertainty, wrong, right)
    total = errors[-1] + others[-1]
    if not errors[-1]:
        return float("nan")
    return float(np.interp(share * total, errors + others, errors) / errors[-1])


def _cumulated(
    score: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positives and negatives of at least each distinct score, from 0 on."""
    values, place = np.unique(-np.asarray(score, np.float64), return_inverse=True)
    sums = [np.bincount(place, weight, len(values)) for weight in (positive, negative)]
    hits, alarms = (np.concatenate([[0.0], np.cumsum(of)]) for of in sums)
    return hits, alarms


class RiskCoverage(NamedTuple):
    """How well a confidence ranks cases by their risk.

    Attributes:
      aurc: mean over k = 1..n of the mean risk of the k most confident cases.
      e_aurc: the same less that of the perfect order.
      closed: share of the gap between a random and the perfect order; nan if all risks are equal.
    """

    aurc: float
    e_aurc: float
    closed: float


def risk_coverage(confidence: np.ndarray, risk: np.ndarray) -> RiskCoverage:
    """Computes the area under the risk-coverage curve (Geifman, Uziel and El-Yaniv, ICLR 2019).

    Args:
      confidence: [n]; cases of equal confidence count as their mean.
      risk: [n], such as 1 - Dice.
    """
    own, best = curve(confidence, risk).mean(), curve(-np.asarray(risk), risk).mean()
    gap = float(np.mean(risk)) - best
    closed = float((np.mean(risk) - own) / gap) if gap > 0 else float("nan")
    return RiskCoverage(float(own), float(own - best), closed)


def curve(confidence: np.ndarray, risk: np.ndarray) -> np.ndarray:
    """Returns the mean risk of the k most confident cases, k = 1..n: [n]."""
    values, place = np.unique(-np.asarray(confidence, np.float64), return_inverse=True)
    counts = np.bincount(place, minlength=len(values))
    expected = (np.bincount(place, risk, len(values)) / counts)[np.sort(place)]
    return np.cumsum(expected) / np.arange(1, len(expected) + 1)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Computes the rank correlation of [n] and [n]; nan where one of them is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    from scipy import stats  # slow to import, and no prediction needs it

    return float(stats.spearmanr(a, b).statistic)
