"""Fuses several masks of an image into one map, which is foreground where it is above 1/2."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MOST_ITERATIONS, CONVERGED = 10_000, 1e-9  # of STAPLE; the largest change of a map in 0..1
WHOLE = ("staple", "medoid")  # need all pixels of an image at once; the others are pixel by pixel


class Staple(NamedTuple):
    """The result of STAPLE for S masks.

    Attributes:
      probability: [H, W] float64, of foreground.
      sensitivity: [S], each mask's probability to find foreground.
      specificity: [S], each mask's probability to leave background out.
    """

    probability: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray


def fuse(soft: np.ndarray, method: str) -> np.ndarray:
    """Fuses soft masks [S, H, W] in 0..1 into a map [H, W] of the same type, nan where one is.

    Args:
      soft: the masks; "majority", "staple" and "medoid" compare them where they are above 1/2.
      method: "mean"; "median"; "majority", the share of the masks that hold a pixel; "staple", see
        `staple`; "medoid", the mask of the highest mean IoU with the others.
    """
    return FUSIONS[method](soft)


def staple(masks: np.ndarray) -> Staple:
    """Estimates the true mask, and how good each mask is, by expectation-maximization.

    Warfield, Zou and Wells, IEEE Transactions on Medical Imaging 23(7), 2004, for binary masks. The
    prior of foreground is the same at every pixel, the share of foreground of all masks; pixels are
    independent, given the quality of each mask.

    Args:
      masks: [S, H, W] of 0 and 1. Without any background, or any foreground, they are the result.
    """
    count, shape = len(masks), masks.shape[1:]
    pixels, prior = masks.reshape(count, -1).T.astype(bool), float(np.mean(masks))
    if prior in (0, 1):
        return Staple(np.full(shape, prior), np.ones(count), np.ones(count))
    # pixels on which the masks vote alike are alike: few patterns stand for millions of pixels
    packed, place, weight = np.unique(
        np.packbits(pixels, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    votes = np.unpackbits(packed, axis=1, count=count).astype(np.float64)
    probability = votes.mean(axis=1)
    sensitivity, specificity = _quality(votes, weight, probability)
    for _ in range(MOST_ITERATIONS):
        before = probability
        evidence = _log_odds(sensitivity, 1 - specificity, votes)
        evidence += _log_odds(1 - sensitivity, specificity, 1 - votes)
        probability = 1 / (1 + (1 / prior - 1) * np.exp(-evidence))
        sensitivity, specificity = _quality(votes, weight, probability)
        if np.abs(probability - before).max() < CONVERGED:
            break
    return Staple(probability[place.reshape(-1)].reshape(shape), sensitivity, specificity)


def _quality(
    votes: np.ndarray, weight: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns sensitivity and specificity [S] of votes [P, S], each of `weight` [P] pixels."""
    true, false = weight * probability, weight * (1 - probability)
    tiny = np.finfo(np.float64).tiny
    return votes.T @ true / max(true.sum(), tiny), (1 - votes).T @ false / max(false.sum(), tiny)


def _log_odds(true: np.ndarray, false: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Returns [P]: the sum over masks of votes [P, S] times log(true / false), which are [S]."""
    least = 1e-12  # a quality of 0 or 1 on the masks at hand is no proof that it is
    return votes @ np.log(np.maximum(true, least) / np.maximum(false, least))


def medoid(masks: np.ndarray) -> int:
    """Returns the index of the mask [S, H, W] of the highest mean IoU with the others.

    Two empty masks are the same: their IoU is 1. The first of several equal ones is taken.
    """
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    common = (flat @ flat.T).astype(np.float64)
    areas = np.diag(common)
    union = areas[:, None] + areas - common
    iou = np.where(union > 0, common / np.maximum(union, 1), 1.0)
    return int(iou.sum(axis=1).argmax())


def _majority(soft: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(soft), soft > 0.5, np.nan).mean(axis=0).astype(soft.dtype)


def _staple(soft: np.ndarray) -> np.ndarray:
    known = np.isfinite(soft).all(axis=0)
    return np.where(known, staple(soft > 0.5).probability, np.nan).astype(soft.dtype)


FUSIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda soft: soft.mean(axis=0),
    "median": lambda soft: np.median(soft, axis=0).astype(soft.dtype),
    "majority": _majority,
    "staple": _staple,
    "medoid": lambda soft: soft[medoid(soft > 0.5)],
}
