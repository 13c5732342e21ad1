"""Averages several generations of a mask into one probability map at the annotation's size."""

import numpy as np

from segdiff_jax.data.resize import bilinear
from segdiff_jax.inference.fusion import fuse


def uncertainty(soft: np.ndarray, random: bool = True) -> np.ndarray:
    """Computes the uncertainty of a prediction pixel by pixel, 0..0.5.

    Args:
      soft: [S, ...] in 0..1, generations; or probabilities of the network.
      random: whether they are samples of masks, see `MaskSampler`.

    Returns:
      [...] the standard deviation between generations; or sqrt(p (1 - p)), that of a pixel which is
      foreground with the mean probability p.
    """
    if random:
        return soft.std(axis=0)
    p = soft[0] if len(soft) == 1 else soft.mean(axis=0)
    return np.sqrt(p * (1 - p))


def average(generations: np.ndarray, size: tuple[int, int], fusion: str = "mean") -> np.ndarray:
    """Resizes every generation, clips it to 0..1 and averages: the order of the authors' code.

    Args:
      generations: [S, h, w] floats, probabilities. A sampler without clipping leaves values outside
        0..1; clipping them before the resize would move the contour of the mask.
      size: (H, W) of the annotation, pixels.
      fusion: what takes the place of the mean, see `fusion.fuse`.

    Returns:
      [H, W] float32 in 0..1; nan where a generation is nan.
    """
    resized = (np.clip(bilinear(one, size), 0, 1) for one in generations)
    if fusion != "mean":
        return fuse(np.stack(list(resized)), fusion).astype(np.float32)
    total = np.zeros(size, np.float64)
    for one in resized:  # one at a time: the maps may be small and the annotation large
        total += one
    return (total / len(generations)).astype(np.float32)
