"""How well two contours agree: the boundary F-measure of DARNet and of the authors' code."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels [H, W] bool that differ from their right, lower or lower-right neighbour.

    The boundary of the DAVIS benchmark. Neighbours outside the image count as equal, so the border
    of the image is never a boundary.
    """
    inside = np.pad(np.asarray(mask, bool), ((0, 1), (0, 1)), mode="edge")
    here = inside[:-1, :-1]
    return (here ^ inside[:-1, 1:]) | (here ^ inside[1:, :-1]) | (here ^ inside[1:, 1:])


def boundary_f(
    pred: np.ndarray, true: np.ndarray, radii: Sequence[float] = (1, 2, 3, 4, 5)
) -> float:
    """F-measure of the two boundaries within a tolerance, averaged over tolerances ("FBound").

    Precision is the share of predicted boundary pixels with a true one within the tolerance; recall
    is the reverse.

    Args:
      pred: mask [H, W].
      true: mask [H, W].
      radii: the tolerances, Euclidean distances in pixels, themselves included.

    Returns:
      A number in 0..1: 1 when neither mask has a boundary, 0 when only one has.
    """
    pred, true = (boundary(mask) for mask in (pred, true))
    if not pred.any() or not true.any():
        return float(pred.any() == true.any())
    # One distance transform answers for every radius r: at most r from a boundary is the same as
    # inside the boundary dilated by a disk of radius r.
    to_true = ndimage.distance_transform_edt(~true)[pred]  # type: ignore[index]
    to_pred = ndimage.distance_transform_edt(~pred)[true]  # type: ignore[index]
    scores = []
    for radius in radii:
        precision, recall = np.mean(to_true <= radius), np.mean(to_pred <= radius)
        total = precision + recall
        scores.append(2 * precision * recall / total if total else 0.0)
    return float(np.mean(scores))
