"""Scores samples of masks as draws from a joint distribution, against one true mask an image.

A probability map is scored pixel by pixel; samples are scored by what goes together. The ledger of
variance says whether samples are samples: for a pixel, variance within a sample's soft value and
variance between samples must add up to p (1 - p) of the map, nearly all of it between. Area and
number of objects are numbers that only a joint distribution has; their score is the continuous
ranked probability score, fair to small samples (Ferro, QJRMS 140, 2014). NumPy, one image a call.
"""

from typing import NamedTuple

import numpy as np

from segdiff_jax.data.classes import member
from segdiff_jax.evaluation.labelling import SMALLEST, label
from segdiff_jax.metrics import regions


class Ledger(NamedTuple):
    """Variance of the pixels of an image, means over pixels.

    Attributes:
      within: g (1 - g) of the samples' soft values, 0 for hard masks.
      between: of the values of one pixel between samples, unbiased.
      marginal: p (1 - p) of the probability map.
    """

    within: float
    between: float
    marginal: float


def ledger(samples: np.ndarray, probability: np.ndarray) -> Ledger:
    """Computes where the doubt of samples lies.

    Args:
      samples: [S, H, W] in 0..1, soft or hard; S at least 2.
      probability: [H, W] in 0..1.
    """
    soft = np.asarray(samples, np.float64)
    p = np.asarray(probability, np.float64)
    within, between = np.mean(soft * (1 - soft)), np.mean(soft.var(axis=0, ddof=1))
    return Ledger(float(within), float(between), float(np.mean(p * (1 - p))))


def unbiased_brier(samples: np.ndarray, true: np.ndarray) -> float:
    """Computes the Brier score that the mean of infinitely many independent samples would have.

    The square of a mean of S is too large by variance / S, which is subtracted.

    Args:
      samples: [S, H, W] in 0..1; S at least 2.
      true: mask [H, W].
    """
    soft, truth = np.asarray(samples, np.float64), np.asarray(true, bool)
    excess = soft.var(axis=0, ddof=1) / len(soft)
    return float(np.mean(np.square(soft.mean(axis=0) - truth) - excess))


def fair_crps(values: np.ndarray, truth: float) -> float:
    """Computes the continuous ranked probability score of samples, unbiased for their number.

    mean |x_i - y| less half the mean |x_i - x_j| over pairs i != j; in the units of the values. One
    value is a forecast without spread: its absolute error.

    Args:
      values: [S].
      truth: y.
    """
    x = np.asarray(values, np.float64)
    error, n = np.abs(x - truth).mean(), len(x)
    pairs = np.abs(x[:, None] - x[None]).sum() / (n * (n - 1)) if n > 1 else 0.0
    return float(error - pairs / 2)


def expected_area(soft: np.ndarray) -> np.ndarray:
    """Returns the sum of the values of masks [..., H, W], pixels: [...]."""
    return np.asarray(soft, np.float64).sum(axis=(-2, -1))


def object_counts(
    masks: np.ndarray,
    threshold: float = 0.5,
    interiors: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    by_distance: bool = False,
    overlap: int = 0,
) -> np.ndarray:
    """Returns the number of 4-connected components of `SMALLEST` pixels or more: [S] int64.

    Args:
      masks: [S, H, W] in 0..1.
      threshold: above which a pixel belongs to one.
      interiors: [S, H, W] in 0..1, which divide components, see `labelling.label`; None: they do
        not.
      classes: [S, H, W], the number of the class of each pixel, which divide them likewise.
      by_distance: whether the distance to the background divides them, in place of these.
      overlap: how many classes there are, if they overlap; then those of each are counted.
    """
    if overlap and classes is not None:
        parts = [masks * member(classes, k, True) for k in range(1, overlap + 1)]
        return np.sum([object_counts(x, threshold, by_distance=by_distance) for x in parts], axis=0)
    if by_distance:
        counts = [label(mask > threshold, by_distance=True).max(initial=0) for mask in masks]
        return np.array(counts, np.int64)
    if interiors is None and classes is not None:
        maps = np.where(masks > threshold, classes, 0)
        return np.array([label(one > 0, classes=one).max(initial=0) for one in maps], np.int64)
    if interiors is None:
        return np.array([_count(mask > threshold) for mask in masks], np.int64)
    both = zip(masks, interiors, strict=True)
    counts = [label(mask > threshold, interior).max(initial=0) for mask, interior in both]
    return np.array(counts, np.int64)


def _count(mask: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(regions(mask).ravel())[1:] >= SMALLEST))


def pairwise_dice(masks: np.ndarray) -> float:
    """Computes the mean Dice of all pairs of masks [S, H, W], S at least 2; two empty ones: 1."""
    return float(dice_matrix(masks, masks)[np.triu_indices(len(masks), 1)].mean())


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the IoU of each mask in a [M, H, W] with each in b [N, H, W], [M, N]."""
    both, areas = _overlaps(a, b)
    return _ratio(both, areas - both)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the Dice of two masks [H, W]; of two empty ones 1, where `metrics.dice` has 0."""
    return float(dice_matrix(a[None], b[None])[0, 0])


def dice_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the Dice of each mask in a [M, H, W] with each in b [N, H, W], [M, N]."""
    both, areas = _overlaps(a, b)
    return _ratio(2 * both, areas)


def _overlaps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the areas of the intersections, and the sums of both areas, [M, N] int64."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    both = np.array([[np.count_nonzero(x & y) for y in b] for x in a])
    return both, np.sum(a, axis=(1, 2))[:, None] + np.sum(b, axis=(1, 2))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def soft_dice_confidence(probability: np.ndarray, mask: np.ndarray) -> float:
    """Computes 2 sum(p m) / (sum p + sum m), the Dice a mask m expects (arXiv 2402.10665).

    Args:
      probability: [H, W] in 0..1, of independent pixels.
      mask: [H, W].

    Returns:
      A number in 0..1; 1 if the mask is empty and no pixel is expected.
    """
    p, m = np.asarray(probability), np.asarray(mask, bool)
    total = p.sum(dtype=np.float64) + m.sum()
    return float(2 * p[m].sum(dtype=np.float64) / total) if total > 0 else 1.0


def independent_pixels(probability: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws masks [count, H, W] uint8 of a map whose pixels are independent: the rival of samples.

    Args:
      probability: [H, W] in 0..1.
      count: of masks.
      seed: of the generator.
    """
    u = np.random.default_rng(seed).random((count, *probability.shape))
    return (u < probability).astype(np.uint8)
