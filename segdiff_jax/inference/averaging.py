"""Averages several generations of a mask into one probability map at the annotation's size."""

import numpy as np

from segdiff_jax.data.resize import bilinear


def uncertainty(soft: np.ndarray, random: bool = True) -> np.ndarray:
    """Computes the uncertainty of a prediction pixel by pixel, 0..0.5.

    Args:
      soft: [S, ...] in 0..1, generations; or the one probability of a one-pass network.
      random: whether the generations are samples.

    Returns:
      [...] the standard deviation between generations; or sqrt(p (1 - p)), that of a pixel which is
      foreground with the network's probability p.
    """
    return soft.std(axis=0) if random else np.sqrt(soft[0] * (1 - soft[0]))


def average(generations: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes every generation, clips it to 0..1 and averages: the order of the authors' code.

    Args:
      generations: [S, h, w] floats, probabilities. A sampler without clipping leaves values outside
        0..1; clipping them before the resize would move the contour of the mask.
      size: (H, W) of the annotation, pixels.

    Returns:
      [H, W] float32 in 0..1; nan where a generation is nan.
    """
    total = np.zeros(size, np.float64)
    for generation in generations:  # one at a time: the maps may be small and the annotation large
        total += np.clip(bilinear(generation, size), 0, 1)
    return (total / len(generations)).astype(np.float32)
