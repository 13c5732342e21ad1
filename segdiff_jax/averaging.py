"""Several generations of one mask -> one probability map at the size of the annotation."""

import numpy as np


def average(generations: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes every generation, clips it to 0..1 and averages: the order of the authors' code.

    Args:
      generations: [S, h, w] floats, probabilities. A sampler without clipping leaves values outside
        0..1; keep them, since clipping before the resize moves the contour of the mask.
      size: (H, W) of the annotation, pixels.

    Returns:
      [H, W] float32 in 0..1; nan where a generation is nan.
    """
    total = np.zeros(size, np.float64)
    for generation in generations:  # one by one: the maps may be small and the annotation large
        total += np.clip(resize(generation, size), 0, 1)
    return (total / len(generations)).astype(np.float32)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, float [h, w] -> float32 (H, W); half-pixel centres, without antialiasing."""
    image = np.asarray(image, np.float32)
    if image.shape == tuple(size):
        return image
    top, bottom, y = _neighbours(image.shape[0], size[0])
    left, right, x = _neighbours(image.shape[1], size[1])
    y = y[:, None]
    rows = image[top] * (1 - y) + image[bottom] * y  # [H, w]
    return rows[:, left] * (1 - x) + rows[:, right] * x  # [H, W]


def _neighbours(n: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source indices around each of `wanted` outputs, and the weight of the second."""
    position = np.clip((np.arange(wanted) + 0.5) * n / wanted - 0.5, 0, n - 1)
    first = position.astype(np.int64)
    return first, np.minimum(first + 1, n - 1), (position - first).astype(np.float32)
