"""Couples the calibrated probability of each pixel with the dependence between pixels of samples.

Samples of the reverse chain know what goes together, but leave much of the doubt about a pixel
within each soft mask. The probability map knows each pixel's marginal, and nothing of what goes
together. Ensemble copula coupling (Schefzik, Thorarinsdottir and Gneiting, Statistical Science
28(4), 2013) takes each from where it is known: by Sklar's theorem a joint distribution is its
marginals and a copula, and the order of samples at a pixel is that of their copula. Instead of the
sample's value, a pixel gets a quantile of uniform numbers of the same rank, and is foreground where
the quantile is at least 1 - p: with probability p exactly, and independently of other samples if
the samples are.

The order at a pixel is that of the samples' own decisions, and among equal decisions that of their
mean log odds over the pixel's region. Soft values themselves would order decided samples by what is
left of the noise, separately at each pixel: an object whose p is a little below the share of
samples that take it would lose single pixels in place of being left out by one sample.
"""

import numpy as np
from scipy import ndimage

OBJECT = 0.3  # probability above which connected pixels are an object
POSSIBLE = 0.05  # above which they are one where there is nothing more probable
CERTAIN = 1e-6  # distance from 0 and 1 that a soft value keeps when its log odds are taken


def couple(soft: np.ndarray, probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws masks with the marginals of a probability map and the dependence of soft samples.

    Args:
      soft: [S, H, W] in 0..1, samples.
      probability: [H, W] in 0..1.
      rng: of the uniform numbers, S for each region.

    Returns:
      [S, H, W] uint8 in {0, 1}.
    """
    region = regions(probability)
    rank = ranks(soft > 0.5, mean_log_odds(soft, probability, region), region)
    levels = np.sort(rng.random((int(region.max()) + 1, len(soft))), axis=1)
    return (levels[region, rank] >= 1 - probability).astype(np.uint8)


def regions(probability: np.ndarray) -> np.ndarray:
    """Divides a map [H, W] into the surroundings of its objects: labels from 0, [H, W] int64.

    An object is a 4-connected component above `OBJECT`, or above `POSSIBLE` if none of its pixels
    is above `OBJECT`; every pixel belongs to the nearest.
    """
    objects, count = ndimage.label(probability > OBJECT)  # type: ignore[misc]
    possible, _ = ndimage.label(probability > POSSIBLE)  # type: ignore[misc]
    held = np.unique(possible[objects > 0])
    alone = (possible > 0) & ~np.isin(possible, held)
    labels = np.where(alone, possible + count, objects)
    if not labels.any():
        return np.zeros(labels.shape, np.int64)
    nearest = ndimage.distance_transform_edt(
        labels == 0, return_distances=False, return_indices=True
    )
    return np.unique(labels[tuple(nearest)], return_inverse=True)[1].reshape(labels.shape)


def mean_log_odds(soft: np.ndarray, probability: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Computes the mean log odds of each sample over each region, weighted by the probability.

    Args:
      soft: [S, H, W] in 0..1.
      probability: [H, W] in 0..1.
      region: [H, W] labels from 0.

    Returns:
      [S, regions] float64.
    """
    p = np.clip(soft, CERTAIN, 1 - CERTAIN).astype(np.float64)
    weight = (probability + CERTAIN).ravel()
    flat, count = region.ravel(), int(region.max()) + 1
    total = np.bincount(flat, weight, count)
    log_odds = np.log(p / (1 - p)).reshape(len(soft), -1)
    return np.stack([np.bincount(flat, weight * one, count) for one in log_odds]) / total


def ranks(hard: np.ndarray, order: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Returns the rank of each sample at each pixel, [S, H, W] in 0..S-1.

    Args:
      hard: [S, H, W] bool, the samples' decisions, which come first.
      order: [S, regions], which orders samples of equal decisions; equal ones by their number.
      region: [H, W] labels from 0.
    """
    within = np.argsort(np.argsort(order, axis=0, kind="stable"), axis=0)
    key = hard * len(hard) + within[:, region]
    return np.argsort(np.argsort(key, axis=0), axis=0)
