"""Finds objects that may be there: in some samples, or in the mask with too little confidence.

A candidate is an object of a sample that has an IoU of less than 1/2 with every object of the mask.
Candidates of several samples are one doubtful object where their IoU is at least 1/2: the one that
most samples hold stands for all, then the most held of those that are left, and so on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from segdiff_jax.certainty.objects import HELD
from segdiff_jax.evaluation.labelling import SMALLEST
from segdiff_jax.evaluation.overlaps import overlaps

RARE = 0.1  # share of the samples; objects that fewer hold are not listed


class Doubtful(NamedTuple):
    """An object that some samples hold, or the mask with too little confidence.

    Attributes:
      top, left: of its bounding box, pixels.
      pixels: [h, w] bool, within the box.
      probability: mean over its pixels.
      held: share of the samples that hold it, with an IoU of at least 1/2.
      area_std: standard deviation of the areas in those, pixels; nan where only one does.
      confidence: of an object of the mask, which has too little of it; nan: the mask has it not.
      class_: name of its class, of classes that overlap; "" of others, where it may be any.
    """

    top: int
    left: int
    pixels: np.ndarray
    probability: float
    held: float
    area_std: float
    confidence: float = float("nan")
    class_: str = ""


class _Pairs(NamedTuple):
    """Candidates and the objects of all samples that have an IoU of at least 1/2 with each.

    Attributes:
      candidate: [P], index of the candidate.
      sample, label: [P], of the object; each candidate is one of its own.
      iou, area: [P], of both; of the object, pixels.
    """

    candidate: np.ndarray
    sample: np.ndarray
    label: np.ndarray
    iou: np.ndarray
    area: np.ndarray


def find(
    labels: np.ndarray, samples: Sequence[np.ndarray], probability: np.ndarray
) -> list[Doubtful]:
    """Returns the doubtful objects of a picture, those first that most samples hold.

    Args:
      labels: [H, W] of the objects of the mask, 0..N.
      samples: [H, W] of those of each sample, 0..M.
      probability: [H, W] in 0..1.
    """
    chosen = [_candidates(labels, sample) for sample in samples]
    where = [(k, label) for k, some in enumerate(chosen) for label in some.tolist()]
    if not where:
        return []
    pairs = _pairs(samples, chosen)
    held = np.bincount(pairs.candidate, minlength=len(where))
    overlap = np.bincount(pairs.candidate, pairs.iou, len(where))
    left, found = held >= RARE * len(samples), []
    first = np.searchsorted(pairs.candidate, np.arange(len(where) + 1))
    index = {place: i for i, place in enumerate(where)}
    for i in np.lexsort((-overlap, -held)):
        if not left[i]:
            continue
        own = slice(first[i], first[i + 1])
        for place in zip(pairs.sample[own].tolist(), pairs.label[own].tolist(), strict=True):
            if place in index:
                left[index[place]] = False
        sample, label = where[i]
        spread = float(np.std(pairs.area[own], ddof=1)) if held[i] > 1 else float("nan")
        share = float(held[i] / len(samples))
        found.append(_cut(samples[sample] == label, probability, share, spread))
    return found


def unsure(
    labels: np.ndarray,
    probability: np.ndarray,
    held: np.ndarray,
    area_std: np.ndarray,
    confidence: np.ndarray,
    least: float,
    classes: Sequence[str] = (),
) -> list[Doubtful]:
    """Returns the objects of a mask whose confidence is below `least`, the surest first.

    Args:
      labels: [H, W], 1..N; of classes that overlap [C, H, W].
      probability: [N], see `Doubtful`.
      held: [N], likewise.
      area_std: [N], likewise.
      confidence: [N].
      least: in 0..1.
      classes: [N], of classes that overlap the name of that of each.
    """
    places, found = ndimage.find_objects(labels), []
    low = np.flatnonzero(confidence < least)
    for i in low[np.argsort(-confidence[low], kind="stable")]:
        box, own_class = places[i], "" if labels.ndim == 2 else classes[i]
        of = (float(one[i]) for one in (probability, held, area_std, confidence))
        own = (labels[box] == i + 1).any(axis=tuple(range(labels.ndim - 2)))
        found.append(Doubtful._make([box[-2].start, box[-1].start, own, *of, own_class]))
    return found


def _candidates(labels: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Returns the labels of the candidates of a sample."""
    of = overlaps(sample, labels)
    best = np.zeros(len(of.first_area))
    np.maximum.at(best, of.first, of.iou)
    large = of.first_area >= SMALLEST
    large[0] = False
    return np.flatnonzero(large & (best < HELD))


def _pairs(samples: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> _Pairs:
    """Returns the pairs, by candidate and sample.

    Only the pixels of candidates count for what two objects share, and a product of sparse matrices
    of objects and pixels has all these counts at once.
    """
    from scipy import sparse  # slow to import, and few predictions need it

    marked = np.zeros(samples[0].shape, bool)
    for sample, some in zip(samples, chosen, strict=True):
        marked |= np.isin(sample, some)  # `some` does not hold 0
    place = np.flatnonzero(marked)
    offset = np.cumsum([0, *(int(sample.max()) + 1 for sample in samples)])
    area = np.concatenate([np.bincount(sample.ravel()) for sample in samples])
    rows = np.concatenate([s.ravel()[place] + o for s, o in zip(samples, offset, strict=False)])
    columns = np.tile(np.arange(len(place)), len(samples))
    inside = ~np.isin(rows, offset)  # the label 0
    ones = np.ones(np.count_nonzero(inside), np.int32)
    objects = sparse.csr_array((ones, (rows[inside], columns[inside])), (offset[-1], len(place)))
    candidates = np.concatenate([c + o for c, o in zip(chosen, offset, strict=False)])
    shared = sparse.coo_array(objects[candidates] @ objects.T)
    mine, theirs = shared.coords
    iou = shared.data / (area[candidates[mine]] + area[theirs] - shared.data)
    sample = np.searchsorted(offset, theirs, side="right") - 1
    label, close = theirs - offset[sample], iou >= HELD
    order = np.lexsort((-iou[close], sample[close], mine[close]))
    pairs = _Pairs(*(of[close][order] for of in (mine, sample, label, iou, area[theirs])))
    # two halves of an object may both have an IoU of exactly 1/2 with it
    new = np.diff(pairs.candidate * len(samples) + pairs.sample, prepend=-1) > 0
    return _Pairs(*(of[new] for of in pairs))


def _cut(pixels: np.ndarray, probability: np.ndarray, held: float, area_std: float) -> Doubtful:
    """Returns a doubtful object of these pixels [H, W]."""
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    own = pixels[box]
    mean = float(probability[box][own].mean())
    return Doubtful(int(rows[0]), int(columns[0]), own, mean, held, area_std)
