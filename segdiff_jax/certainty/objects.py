"""The objects of a mask, connected components, and how sure each is.

Besides its mean probability an object has the samples: how many hold it (IoU of at least 1/2), how
well, and how its area varies. A logistic regression joins them to one confidence: the probability
that a true object has an IoU of at least 1/2 with it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from segdiff_jax.certainty.evidence import Evidence
from segdiff_jax.certainty.of_classes import alone
from segdiff_jax.certainty.regression import Linear, logistic
from segdiff_jax.data.classes import of_objects
from segdiff_jax.evaluation.labelling import numbered
from segdiff_jax.evaluation.overlaps import overlaps

HELD = 0.5  # IoU
FEWEST = 10  # right objects and wrong ones, each, of a fit
CUTS = tuple(k / 20 for k in range(13))  # of the confidence
CLEARLY = 0.005  # of the AP
_EPS = 1e-3


class Objects(NamedTuple):
    """The N objects of a mask, see `labelling.label`.

    Attributes:
      labels: [H, W] int64, 1..N; 0 is background, or a smaller component. Of classes that overlap
        [C, H, W], of each class.
      area: [N] pixels.
      probability: [N], mean of their pixels.
      held: [N], share of the samples' decisions that hold it; nan without samples.
      overlap: [N], mean over decisions of the best IoU; nan likewise.
      passes: [N], mean over passes of the best IoU; nan where there is one pass.
      area_std: [N], of the components of decisions that hold it, pixels; nan where fewer than two.
      classes: [N], number of the class of each from 1; [0] where the network learnt no classes.
    """

    labels: np.ndarray
    area: np.ndarray
    probability: np.ndarray
    held: np.ndarray
    overlap: np.ndarray
    passes: np.ndarray
    area_std: np.ndarray
    classes: np.ndarray


def find(found: Evidence, mask: np.ndarray) -> Objects:
    """Returns the objects of a mask [H, W] of a picture; of overlapping classes, [C, H, W]."""
    if mask.ndim == 3:
        return _joined([find(alone(found, k), one) for k, one in enumerate(mask, 1)])
    labels = found.labelled(mask)
    count = int(labels.max(initial=0))
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    mean = np.bincount(labels.ravel(), found.probability.ravel(), count + 1)[1:] / area
    nan = np.full(count, np.nan)
    held = overlap = spread = passes = nan
    if found.decisions is not None and count:
        drawn = of_decisions(found)
        iou, areas = (np.stack(x) for x in zip(*(best(labels, d) for d in drawn), strict=True))
        held, overlap = np.mean(iou >= HELD, axis=0), iou.mean(axis=0)
        spread = _spread(np.where(iou >= HELD, areas, np.nan))
    if len(found.passes) > 1 and count:
        passes = np.mean([best(labels, one)[0] for one in found.of_passes()], axis=0)
    kinds = found.classes
    classes = np.zeros(0, np.int64) if kinds is None else of_objects(labels, kinds.shares)
    return Objects(labels, area, mean, held, overlap, passes, spread, classes)


def _joined(parts: Sequence[Objects]) -> Objects:
    """Returns the objects of each class that overlaps as one."""
    kinds = np.repeat(np.arange(1, len(parts) + 1), [len(part.area) for part in parts])
    columns = [
        np.concatenate(column) for column in zip(*(part[1:-1] for part in parts), strict=True)
    ]
    return Objects._make([numbered([part.labels for part in parts]), *columns, kinds])


def of_decisions(found: Evidence) -> Iterator[np.ndarray]:
    """Yields the labels [H, W] int32 of the objects of each decision, see `Evidence`."""
    for labels in found.of_decisions():
        yield labels.astype(np.int32)


def best(labels: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the best IoU of each object with one of others, and the area of that one.

    Args:
      labels: [H, W] of 0..N.
      others: [H, W] of 0..M.

    Returns:
      [N] and [N]; 0 and 0 where none overlaps.
    """
    of = overlaps(labels, others)
    iou, area = np.zeros((2, len(of.first_area)))
    np.maximum.at(iou, of.first, of.iou)
    best_of = of.iou == iou[of.first]
    area[of.first[best_of]] = of.second_area[of.second[best_of]]
    return iou[1:], area[1:]


def right(objects: Objects, truth: np.ndarray) -> np.ndarray:
    """Returns which objects are true at IoU 1/2, [N] bool; truth is [H, W] labels 0..M."""
    return best(objects.labels, truth)[0] >= HELD


def features(objects: Objects) -> dict[str, np.ndarray]:
    """Returns what the confidence is made of, by name [N]; what there is not is left out."""
    p = np.clip(objects.probability, _EPS, 1 - _EPS)
    columns = {
        "log odds": np.log(p / (1 - p)),
        "log area": np.log(objects.area),
        "overlap": objects.overlap,
        "passes": objects.passes,
    }
    return {name: of for name, of in columns.items() if len(of) and np.isfinite(of).all()}


def fit(objects: Sequence[Objects], true: Sequence[np.ndarray]) -> Linear | None:
    """Fits the confidence; None if there are fewer than `FEWEST` right objects, or wrong ones."""
    kept = [(features(o), t) for o, t in zip(objects, true, strict=True) if len(o.area)]
    positive = np.concatenate([np.asarray(t, bool) for _, t in kept]) if kept else np.zeros(0, bool)
    if min(np.count_nonzero(positive), np.count_nonzero(~positive)) < FEWEST:
        return None
    names = set.intersection(*(set(of) for of, _ in kept))
    joined = {name: np.concatenate([of[name] for of, _ in kept]) for name in names}
    return logistic(joined, positive)


def least(
    objects: Sequence[Objects],
    true: Sequence[np.ndarray],
    counts: Sequence[float],
    line: Linear | None,
) -> float:
    """Returns the confidence below which objects are better left out, of `CUTS`; 0: none are.

    The one with the largest mean over pictures of TP / (TP + FP + FN), the AP at IoU 1/2, if that
    is `CLEARLY` above that of all objects. An object that is right with probability q raises it if
    q / (1 - q) is above it: 0.43 is the bound at an AP of 0.75.

    Args:
      objects: of the mask of each picture.
      true: [N] bool of each, whether they are right.
      counts: true objects of each picture.
      line: what `fit` returned.
    """
    sure = [confidence(one, line) for one in objects]
    rows = [row for row in zip(sure, true, counts, strict=True) if row[2] or len(row[0])]
    if line is None or not rows:
        return 0.0

    def precision(cut: float) -> float:
        kept = [(np.asarray(t, bool)[c >= cut], n) for c, t, n in rows]
        return float(np.mean([t.sum() / max(len(t) + n - t.sum(), 1) for t, n in kept]))

    best = max(CUTS, key=precision)
    return best if precision(best) > precision(0.0) + CLEARLY else 0.0


def confidence(objects: Objects, line: Linear | None) -> np.ndarray:
    """Returns the calibrated confidence of objects, [N]; nan if the run is not calibrated."""
    if line is None or not len(objects.area):
        return np.full(len(objects.area), np.nan)
    return special.expit(line(features(objects)))


def _spread(areas: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of [S, N] over what is no nan; nan for fewer than two."""
    count = np.isfinite(areas).sum(axis=0)
    total = np.nansum(areas, axis=0)
    centre = total / np.maximum(count, 1)
    squares = np.nansum((areas - centre) ** 2, axis=0)
    return np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)
