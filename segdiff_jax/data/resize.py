"""Resizes images and masks; sizes are (height, width) in pixels.

Of n source pixels, output i of N covers the positions from i n / N to (i + 1) n / N:

    bilinear   the two pixels around the middle of that stretch, weighted; no antialiasing.
               For N = n / 2 that is the mean of 2x2 pixels, exact for uint8.
    nearest    the pixel in which the stretch begins
"""

import numpy as np


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes with half-pixel centres and without antialiasing; the border is repeated.

    This is the rule of OpenCV's INTER_LINEAR and of PyTorch's "bilinear" with align_corners=False.

    Args:
        image: [h, w] or [h, w, C] of any number type; nan spreads to the pixels it has a part in.
        size: (H, W), smaller or larger.

    Returns:
        [H, W] or [H, W, C] float32, within the range of the input but for rounding; the image
        itself if it is float32 and has that size already.

    Raises:
        ValueError: the image has another number of axes, or a side is 0.
    """
    _check(image, size)
    image = np.asarray(image, np.float32)
    if image.shape[:2] == tuple(size):
        return image
    top, bottom, y = _neighbours(image.shape[0], size[0])
    left, right, x = _neighbours(image.shape[1], size[1])
    y = y.reshape(-1, *(1,) * (image.ndim - 1))
    x = x.reshape(-1, *(1,) * (image.ndim - 2))
    rows = image[top] * (1 - y) + image[bottom] * y  # [H, w] or [H, w, C]
    return rows[:, left] * (1 - x) + rows[:, right] * x


def nearest(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Takes source row floor(i h / H) for row i, and columns likewise: OpenCV's INTER_NEAREST.

    Half the size is therefore every second pixel from the first on, not the nearest centre. Where
    i h / H is whole, OpenCV rounds one row or column short at some other ratios; this does not.

    Args:
        image: [h, w] or [h, w, C] of any type.
        size: (H, W), smaller or larger.

    Returns:
        [H, W] or [H, W, C] of the same type.

    Raises:
        ValueError: the image has another number of axes, or a side is 0.
    """
    _check(image, size)
    rows, columns = (np.arange(to) * n // to for n, to in zip(image.shape[:2], size, strict=True))
    return image[rows[:, None], columns]


def _neighbours(n: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the two source indices around each output, and the weight of the second."""
    position = np.clip((np.arange(wanted) + 0.5) * n / wanted - 0.5, 0, n - 1)
    first = position.astype(np.int64)
    return first, np.minimum(first + 1, n - 1), (position - first).astype(np.float32)


def _check(image: np.ndarray, size: tuple[int, int]) -> None:
    if image.ndim not in (2, 3) or 0 in image.shape or min(size) < 1:
        raise ValueError(f"image {image.shape} to {tuple(size)}: [h, w] or [h, w, C], no side 0")
