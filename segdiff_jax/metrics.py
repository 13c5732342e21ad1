"""Computes the scores of a predicted mask against the true one, and their means over images.

NumPy, foreground only, one image at a time. Scores of empty masks; nan is undefined, left out of
means and counted by `summarise`:

                      both empty   truth empty   prediction empty
  iou, dice               0             0               0
  area_ratio             nan            0               0
  weighted_coverage      nan           nan              0
  boundary_f              1             0               0

A full mask has no boundary either. The zeros and the one equal those of the authors' evaluation,
which makes means comparable with theirs; it divides by zero for the area ratio of two empty masks.
The weighted coverage is undefined without a true region: there are no weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from segdiff_jax.errors import INTERNAL, UserError

LABELS = {
    "iou": "IoU",
    "dice": "Dice",
    "area_ratio": "area ratio",
    "weighted_coverage": "weighted coverage",
    "boundary_f": "boundary F",
    "calibration": "calibration",
}
KEYS = tuple(LABELS)


def iou(pred: np.ndarray, true: np.ndarray) -> float:
    """Computes the intersection over union of two masks [H, W]; in 0..1, 0 when both are empty."""
    pred, true = _masks(pred, true)
    union = _area(pred | true)
    return _area(pred & true) / union if union else 0.0


def dice(pred: np.ndarray, true: np.ndarray) -> float:
    """Computes the Dice score of two masks [H, W]; in 0..1, 0 when both are empty.

    Twice the intersection over the sum of the areas, equal to F1 over foreground pixels.
    """
    pred, true = _masks(pred, true)
    areas = _area(pred) + _area(true)
    return 2 * _area(pred & true) / areas if areas else 0.0


def area_ratio(pred: np.ndarray, true: np.ndarray) -> float:
    """Computes the smaller area over the larger; nan when both masks are empty.

    It ignores where the pixels lie, and is never below the IoU. The authors' code computes it under
    the name "WCov".
    """
    small, large = sorted(_area(mask) for mask in _masks(pred, true))
    return small / large if large else float("nan")


def weighted_coverage(
    pred: np.ndarray, true: np.ndarray, objects: np.ndarray | None = None
) -> float:
    """Computes the best IoU of each true region with a predicted one, averaged by area.

    The WCov of the literature (Silberman et al., ECCV 2014). Regions are 4-connected: nuclei that
    meet only at a corner are two; or the labels `objects` [H, W] of the truth, 0 for background,
    which tell objects that touch apart. Masks are [H, W]; the result is in 0..1, nan when the truth
    is empty.
    """
    pred, true = _masks(pred, true)
    pred_label, true_label = regions(pred), regions(true) if objects is None else objects
    pred_area, true_area = np.bincount(pred_label.ravel()), np.bincount(true_label.ravel())
    if not true.any():
        return float("nan")
    # Only pairs that overlap are listed: the full table of 500 x 500 nuclei would be nearly empty.
    both = pred & true
    pairs, overlap = np.unique(
        true_label[both] * pred_area.size + pred_label[both], return_counts=True
    )
    t, p = np.divmod(pairs, pred_area.size)
    best = np.zeros(true_area.size)
    np.maximum.at(best, t, overlap / (true_area[t] + pred_area[p] - overlap))
    return float(np.average(best[1:], weights=true_area[1:]))


def boundary(mask: np.ndarray) -> np.ndarray:
    """Marks the pixels [H, W] that differ from their right, lower or lower-right neighbour.

    This is the boundary of the DAVIS benchmark. Neighbours outside the image count as equal, so the
    border of the image is never a boundary.
    """
    inside = np.pad(np.asarray(mask, bool), ((0, 1), (0, 1)), mode="edge")
    here = inside[:-1, :-1]
    return (here ^ inside[:-1, 1:]) | (here ^ inside[1:, :-1]) | (here ^ inside[1:, 1:])


def boundary_f(
    pred: np.ndarray, true: np.ndarray, radii: Sequence[float] = (1, 2, 3, 4, 5)
) -> float:
    """Computes the F-measure of two boundaries, averaged over tolerances ("FBound").

    Precision is the share of predicted boundary pixels with a true one within the tolerance; recall
    is the reverse. This is the boundary F-measure of DARNet and of the authors' code.

    Args:
      pred: mask [H, W].
      true: mask [H, W].
      radii: the tolerances, Euclidean distances in pixels, inclusive.

    Returns:
      A number in 0..1: 1 when neither mask has a boundary, 0 when only one has.
    """
    counts = boundary_counts(pred, true, radii)
    pred_pixels, true_pixels = counts[0, 1], counts[0, 3]
    if not pred_pixels or not true_pixels:
        return float(pred_pixels == true_pixels)
    return pooled_boundary_f(counts)


def boundary_counts(
    pred: np.ndarray, true: np.ndarray, radii: Sequence[float] = (1, 2, 3, 4, 5)
) -> np.ndarray:
    """Counts the pixels of two boundaries [H, W], and those within each tolerance of the other one.

    Returns:
      [radii, 4] int64: predicted pixels with a true one within the tolerance, predicted pixels;
      true pixels with a predicted one, true pixels. Sums over images are `pooled_boundary_f`'s.
    """
    pred, true = (boundary(mask) for mask in (pred, true))
    counts = np.zeros((len(radii), 4), np.int64)
    counts[:, 1], counts[:, 3] = _area(pred), _area(true)
    if pred.any() and true.any():
        # One distance transform serves every radius r: a distance of at most r to a boundary is the
        # same as lying inside the boundary dilated by a disk of radius r.
        to_true = ndimage.distance_transform_edt(~true)[pred]  # type: ignore[index]
        to_pred = ndimage.distance_transform_edt(~pred)[true]  # type: ignore[index]
        for row, radius in zip(counts, radii, strict=True):
            row[0], row[2] = np.sum(to_true <= radius), np.sum(to_pred <= radius)
    return counts


def pooled_boundary_f(counts: np.ndarray) -> float:
    """Computes the boundary F-measure of all images together, as DARNet's evaluation does.

    Args:
      counts: [radii, 4], the sum of `boundary_counts` over images.

    Returns:
      The mean over radii, in 0..1; nan where one of the sides has no boundary at all.
    """
    scores = []
    for near_true, pred, near_pred, true in counts.tolist():
        if not pred or not true:
            return float("nan")
        precision, recall = near_true / pred, near_pred / true
        total = precision + recall
        scores.append(2 * precision * recall / total if total else 0.0)
    return float(np.mean(scores))


def calibration(probability: np.ndarray, true: np.ndarray, bins: int = 10) -> np.ndarray:
    """Computes the sums for `calibration_score`; those of several images or hosts may be added.

    Args:
      probability: [H, W] in 0..1.
      true: mask [H, W].
      bins: number of equal intervals of 0..1; a probability on a border belongs to the upper
        interval, 1 to the last.

    Returns:
      [3, bins] float64: sum of probabilities, number of positive pixels, number of pixels by bin.
    """
    p = np.asarray(probability, np.float64).ravel()
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    weights = (p, np.asarray(true, bool).ravel(), None)
    return np.stack([np.bincount(index, w, bins).astype(np.float64) for w in weights])


def calibration_score(sums: np.ndarray) -> float:
    """Computes the mean over bins of (mean probability - share of positive pixels)^2.

    This is the paper's calibration score; lower is better. Bins without pixels are left out, all
    others have equal weights. In 0..1; nan without pixels.
    """
    probability, positives, count = sums[:, sums[2] > 0]
    return float(np.mean(((probability - positives) / count) ** 2)) if count.size else float("nan")


def scores(
    probability: np.ndarray, true: np.ndarray, objects: np.ndarray | None = None
) -> dict[str, float]:
    """Computes every score of one image, by `KEYS`; the predicted mask is `probability > 0.5`.

    Args:
      probability: [H, W] in 0..1.
      true: mask [H, W].
      objects: its objects by their labels, see `weighted_coverage`.

    Raises:
      UserError: a probability is outside 0..1 or nan, which a mask would hide.
    """
    low, high = float(np.min(probability)), float(np.max(probability))
    if not (low >= 0 and high <= 1):  # also true of nan
        raise UserError(f"probabilities range from {low} to {high}: need 0..1", INTERNAL)
    pred = probability > 0.5
    return {
        "iou": iou(pred, true),
        "dice": dice(pred, true),
        "area_ratio": area_ratio(pred, true),
        "weighted_coverage": weighted_coverage(pred, true, objects),
        "boundary_f": boundary_f(pred, true),
        "calibration": calibration_score(calibration(probability, true)),
    }


class Summary(NamedTuple):
    """Summarizes one score over images; the spread divides by n - 1, nan below two values."""

    mean: float
    standard_deviation: float
    standard_error: float
    defined: int
    undefined: int


def summarise(rows: Sequence[Mapping[str, Any]], keys: Sequence[str] = KEYS) -> dict[str, Summary]:
    """Computes mean and spread over the images where a score is defined, and counts the others."""
    return {key: _summary(np.array([row[key] for row in rows], np.float64)) for key in keys}


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean of every score, as `summarise` does."""
    return {key: summary.mean for key, summary in summarise(rows).items()}


def _summary(values: np.ndarray) -> Summary:
    known = values[np.isfinite(values)]
    n, nan = known.size, float("nan")
    spread = float(np.std(known, ddof=1)) if n > 1 else nan
    return Summary(
        float(np.mean(known)) if n else nan, spread, spread / max(n, 1) ** 0.5, n, values.size - n
    )


def regions(mask: np.ndarray) -> np.ndarray:
    """Labels the 4-connected regions of a mask [H, W] by 1, 2, ..., int64; 0 outside."""
    labels = np.empty(mask.shape, np.int64)
    ndimage.label(mask, output=labels)
    return labels


def _area(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))


def _masks(pred: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pred, true = np.asarray(pred, bool), np.asarray(true, bool)
    if pred.shape != true.shape:
        raise ValueError(f"prediction {pred.shape} and truth {true.shape} differ in shape")
    return pred, true
