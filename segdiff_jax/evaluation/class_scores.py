"""Scores class maps: Dice and IoU of each class, and the objects of each; NumPy.

Sums over pictures (`total`) weigh pixels and objects alike, as benchmarks of classes do: the mean
over the classes of the IoU of all pictures together is their mIoU. A class that is in neither the
truth nor the prediction has no score there, which is nan and left out of means.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segdiff_jax.data.classes import member
from segdiff_jax.evaluation import object_scores
from segdiff_jax.metrics import summarise

LABELS = {"dice": "Dice", "iou": "IoU", "ap50": "AP50", "pq": "PQ"}


class ClassCounts(NamedTuple):
    """What the scores of one class are made of, of one picture or of several together.

    Attributes:
      both, true, found: pixels of the class, in truth and prediction, in the truth, predicted.
      objects: counts of its objects.
    """

    both: int
    true: int
    found: int
    objects: object_scores.Counts


def count(
    found: np.ndarray,
    true: np.ndarray,
    found_objects: tuple[np.ndarray, np.ndarray],
    true_objects: tuple[np.ndarray, np.ndarray],
    classes: int,
    overlap: bool = False,
) -> list[ClassCounts]:
    """Counts the pixels and objects of each class of a picture.

    Args:
      found: class map [H, W] of the prediction, 0 is background.
      true: likewise of the truth.
      found_objects: labels [H, W] of 0..N, and the class of each [N]; of classes that overlap the
        labels of each class, [C, H, W].
      true_objects: likewise.
      classes: C, how many there are.
      overlap: whether a pixel may belong to several, see `data.classes`.
    """
    counts = []
    for k in range(1, classes + 1):
        of_found, of_true = member(found, k, overlap), member(true, k, overlap)
        sides = of_found & of_true, of_true, of_found
        both, in_true, in_found = (int(np.count_nonzero(side)) for side in sides)
        objects = object_scores.count(_of_class(*found_objects, k), _of_class(*true_objects, k))
        counts.append(ClassCounts(both, in_true, in_found, objects))
    return counts


def _of_class(labels: np.ndarray, classes: np.ndarray, k: int) -> np.ndarray:
    """Returns labels with those of class k alone."""
    return np.where(np.concatenate([[False], classes == k])[labels], labels, 0)


def majority(labels: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Returns the class [N], from 1, that most pixels of each object have in a class map."""
    flat, kinds = labels.ravel().astype(np.int64), classes.ravel().astype(np.int64)
    n = int(flat.max(initial=0)) + 1
    table = np.bincount(flat * (count + 1) + kinds, minlength=n * (count + 1))
    return np.argmax(table.reshape(n, count + 1)[1:, 1:], axis=1) + 1


def by_plane(labels: np.ndarray) -> np.ndarray:
    """Returns the class [N], from 1, of the objects of labels [C, H, W] of each class."""
    ends = [int(plane.max(initial=0)) for plane in labels]
    counts = np.diff(np.maximum.accumulate([0, *ends]))
    return np.repeat(np.arange(1, len(labels) + 1), counts)


def total(pictures: Sequence[Sequence[ClassCounts]]) -> list[ClassCounts]:
    """Returns the counts of each class of several pictures together; at least one."""
    summed = []
    for of_class in zip(*pictures, strict=True):
        both, true, found = (sum(values) for values in zip(*(x[:3] for x in of_class), strict=True))
        objects = object_scores.total([one.objects for one in of_class])
        summed.append(ClassCounts(both, true, found, objects))
    return summed


def scores(of: ClassCounts) -> dict[str, float]:
    """Returns the scores of counts, by `LABELS`."""
    both, areas, objects = of.both, of.true + of.found, object_scores.scores(of.objects)
    nan = float("nan")
    return {
        "dice": 2 * both / areas if areas else nan,
        "iou": both / (areas - both) if areas else nan,
        "ap50": objects["ap50"],
        "pq": objects["pq"],
    }


def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the means over classes of their scores, where these are defined."""
    return {key: summary.mean for key, summary in summarise(rows, [*LABELS]).items()}


def report(names: Sequence[str], pictures: Sequence[Sequence[ClassCounts]]) -> dict[str, Any]:
    """Returns the scores of each class, of all pictures together and as means over them.

    Returns:
      {"classes": {name: {"together": scores, "images": means}}, "mean": the same over the classes}.
    """
    together = [scores(one) for one in total(pictures)]
    images = [mean([scores(of[k]) for of in pictures]) for k in range(len(names))]
    rows = ({"together": a, "images": b} for a, b in zip(together, images, strict=True))
    means = {"together": mean(together), "images": mean(images)}
    return {"classes": dict(zip(names, rows, strict=True)), "mean": means}
