"""Resizing images and masks, each rule by its name; sizes are (height, width) in pixels.

Of n source pixels, output i of N covers the positions from i n / N to (i + 1) n / N:

    bilinear   the two pixels around the middle of that stretch, weighted; no antialiasing
    nearest    the pixel in which the stretch begins
    area       the mean over the stretch, with parts of pixels counted as such
    majority   whether foreground fills at least half of the area
"""

import numpy as np


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes with half-pixel centres and without antialiasing; the border is repeated.

    The rule of OpenCV's INTER_LINEAR and of PyTorch's "bilinear" with align_corners=False.

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


def area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Averages over the rectangle that each new pixel covers, whether it ends between pixels or on.

    Args:
      image: [h, w] or [h, w, C] of any number type; nan stays in the pixels that cover it.
      size: (H, W) of at most (h, w).

    Returns:
      [H, W] or [H, W, C] float32, within the range of the input but for rounding.

    Raises:
      ValueError: a side is to grow, or is 0, or the image has another number of axes.
    """
    return (_sums(image, size) / (image.shape[0] * image.shape[1])).astype(np.float32)


def majority(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns where at least half of the area of a new pixel is foreground.

    Args:
      mask: [h, w] of {0, 1}.
      size: (H, W) of at most (h, w).

    Returns:
      [H, W] uint8 of {0, 1}; exactly one half is 1, also where new pixels end between old ones.

    Raises:
      ValueError: a value that is neither 0 nor 1, or as for `area`.
    """
    if not np.isin(mask, (0, 1)).all():
        raise ValueError(f"a mask holds 0 and 1 only; this one {np.unique(mask)[:5]}")
    return (2 * _sums(mask, size) >= mask.shape[0] * mask.shape[1]).astype(np.uint8)


def _neighbours(n: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source indices around each of `wanted` outputs, and the weight of the second."""
    position = np.clip((np.arange(wanted) + 0.5) * n / wanted - 0.5, 0, n - 1)
    first = position.astype(np.int64)
    return first, np.minimum(first + 1, n - 1), (position - first).astype(np.float32)


def _sums(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The sum over each new pixel's rectangle, in units of 1 / (H W) of an old pixel, float64.

    In these units every part of a pixel is a whole number, so sums of integers are exact.
    """
    _check(image, size)
    if size[0] > image.shape[0] or size[1] > image.shape[1]:
        raise ValueError(f"{image.shape[:2]} to {tuple(size)}: averaging over an area only reduces")
    rows = _sums_of_rows(image, size[0])
    return _sums_of_rows(rows.swapaxes(0, 1), size[1]).swapaxes(0, 1)


def _sums_of_rows(image: np.ndarray, wanted: int) -> np.ndarray:
    """Output row i of `wanted` is the weighted sum of rows i n / wanted to (i + 1) n / wanted."""
    n = len(image)
    sums = np.empty((wanted, *image.shape[1:]))
    for i in range(wanted):  # row by row, so that the image is never held as floats as a whole
        begin, end = i * n, (i + 1) * n  # in parts of a pixel, `wanted` of which make one
        first, last = begin // wanted, (end - 1) // wanted
        parts = np.full(last - first + 1, wanted, np.float64)
        parts[0] -= begin - first * wanted
        parts[-1] -= (last + 1) * wanted - end
        sums[i] = np.tensordot(parts, image[first : last + 1], axes=1)
    return sums


def _check(image: np.ndarray, size: tuple[int, int]) -> None:
    if image.ndim not in (2, 3) or 0 in image.shape or min(size) < 1:
        raise ValueError(f"image {image.shape} to {tuple(size)}: [h, w] or [h, w, C], no side 0")
