"""Scores predicted objects against true ones, both given by labels; NumPy, one picture a call.

A predicted object is a hit at a threshold t if its IoU with a true one is at least t; each object
belongs to one pair at most. With TP hits, FP predicted and FN true objects without one:

    AP_t  TP / (TP + FP + FN), the "average precision" of the Data Science Bowl 2018 and of StarDist
          (Schmidt et al., MICCAI 2018), which has no curve of precisions; "ap" is its mean over
          t = 0.5, 0.55, ..., 0.95
    PQ    sum of the hits' IoU at t = 0.5 over TP + FP / 2 + FN / 2, = SQ RQ: the hits' mean IoU and
          their F1 (Kirillov et al., CVPR 2019)
    AJI   sum of the intersections of each true object with the predicted one of the best IoU, over
          the sum of their unions and of the areas of predicted objects that no true one took; a
          predicted one may be taken twice (Kumar et al., IEEE TMI 2017)

Errors are counted by halves, as the Cell Tracking Challenge assigns objects (Matula et al., PLoS
ONE 2015): an object lies in another if more than half of its pixels do. Merged is a predicted
object in which several true ones lie; split is a true one in which several predicted ones lie;
missed is a true one that lies in none and in which none lies; added is such a predicted one.

Counts are added over pictures (`total`): scores of the sum weigh objects alike, means of the scores
of pictures weigh pictures alike. nan is undefined: a picture without objects on both sides, and SQ
without a hit.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from segdiff_jax.evaluation.overlaps import Overlaps, overlaps, sequential

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
LABELS = {
    "ap50": "AP50",
    "ap75": "AP75",
    "ap": "AP50:95",
    "pq": "PQ",
    "sq": "SQ",
    "rq": "RQ",
    "aji": "AJI",
    "true_objects": "objects",
    "found_objects": "found",
    "split": "split",
    "merged": "merged",
    "missed": "missed",
    "added": "added",
}


class Counts(NamedTuple):
    """What the scores are made of, of one picture or of several together.

    Attributes:
      true, found: objects of the truth and of the prediction.
      hits: [10], at each of `THRESHOLDS`.
      iou: sum over the hits at 0.5.
      both, either: pixels of the intersections and of the unions of AJI.
      split, merged, missed, added: objects.
    """

    true: int
    found: int
    hits: np.ndarray
    iou: float
    both: int
    either: int
    split: int
    merged: int
    missed: int
    added: int


def count(found: np.ndarray, true: np.ndarray) -> Counts:
    """Counts the objects of a picture.

    Args:
      found: [H, W] integers, the labels of the predicted objects, any numbers from 1; 0 is
        background.
      true: [H, W], likewise of the true ones.

    Raises:
      ValueError: the shapes differ.
    """
    if found.shape != true.shape:
        raise ValueError(f"prediction {found.shape} and truth {true.shape} differ in shape")
    of = overlaps(sequential(true), sequential(found))
    matched = _matched(of)
    hits = np.array([np.count_nonzero(matched >= t) for t in THRESHOLDS], np.int64)
    sizes = len(of.first_area) - 1, len(of.second_area) - 1
    return Counts(*sizes, hits, float(matched.sum()), *_aji(of), *_errors(of))


def total(counts: Sequence[Counts]) -> Counts:
    """Returns the counts of several pictures together; at least one."""
    columns: list[Any] = [sum(column[1:], start=column[0]) for column in zip(*counts, strict=True)]
    return Counts(*columns)


def scores(of: Counts) -> dict[str, float]:
    """Returns the scores of counts, by `LABELS`."""
    errors = of.true + of.found - of.hits  # TP + FP + FN
    precision = [_ratio(*pair) for pair in zip(of.hits, errors, strict=True)]
    hits, half = int(of.hits[0]), (of.true + of.found) / 2  # TP + FP / 2 + FN / 2
    return {
        "ap50": precision[0],
        "ap75": precision[THRESHOLDS.index(0.75)],
        "ap": float(np.mean(precision)),
        "pq": _ratio(of.iou, half),
        "sq": _ratio(of.iou, hits),
        "rq": _ratio(hits, half),
        "aji": _ratio(of.both, of.either),
        "true_objects": float(of.true),
        "found_objects": float(of.found),
        **{name: float(getattr(of, name)) for name in ("split", "merged", "missed", "added")},
    }


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _matched(of: Overlaps) -> np.ndarray:
    """Returns the IoU of pairs that no other shares an object with, as many as there can be.

    Above 1/2 there is nothing to choose: two objects cannot both have more than half of a third.
    Pairs of exactly 1/2 may share one, and are all alike.
    """
    close = of.iou >= THRESHOLDS[0]
    shape = len(of.first_area), len(of.second_area)
    place = of.first[close], of.second[close]
    from scipy import sparse  # slow to import, and no prediction needs it
    from scipy.sparse.csgraph import maximum_bipartite_matching

    pairs = sparse.csr_array((np.ones(len(place[0]), np.int8), place), shape)
    partner = maximum_bipartite_matching(pairs, perm_type="column")
    return of.iou[close][partner[place[0]] == place[1]]


def _aji(of: Overlaps) -> tuple[int, int]:
    """Returns the pixels of intersections and of unions."""
    order = np.lexsort((of.second, -of.iou, of.first))  # the best of each true object first
    true, first = np.unique(of.first[order], return_index=True)
    best = order[first]
    taken = of.second[best]
    both = int(of.shared[best].sum())
    paired = int(of.first_area[true].sum() + of.second_area[taken].sum()) - both
    alone = of.first_area[1:].sum() - of.first_area[true].sum()
    left = of.second_area[1:].sum() - of.second_area[np.unique(taken)].sum()
    return both, paired + int(alone) + int(left)


def _errors(of: Overlaps) -> tuple[int, int, int, int]:
    """Returns how many objects are split, merged, missed and added."""
    true_inside = 2 * of.shared > of.first_area[of.first]
    found_inside = 2 * of.shared > of.second_area[of.second]
    held = np.bincount(of.second[true_inside])
    holds = np.bincount(of.first[found_inside])
    linked = true_inside | found_inside
    missed = len(of.first_area) - 1 - len(np.unique(of.first[linked]))
    added = len(of.second_area) - 1 - len(np.unique(of.second[linked]))
    return int(np.sum(holds > 1)), int(np.sum(held > 1)), missed, added
