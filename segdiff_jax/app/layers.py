"""Draws what the page lays over each other: picture, probability, uncertainty, outlines."""

import io
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from segdiff_jax.app.answers import Answered
from segdiff_jax.app.predicted import Predicted
from segdiff_jax.certainty.doubtful import Doubtful
from segdiff_jax.data.composite import composite
from segdiff_jax.prediction.object_table import Row
from segdiff_jax.prediction.overlay import (
    INSIDE,
    OUTSIDE,
    TINT,
    block_labels,
    colour_table,
    reduced,
    rim,
)

LONGEST = 2048  # pixels of the longer side that is sent; larger windows are reduced
THUMBNAIL = 168  # pixels of the longer side of an alternative among others
AROUND = 3.0  # sides of an object that a window around it has
SMALLEST = 96  # pixels of the side of a window
COLOURS = {"probability": "viridis", "uncertainty": "magma"}  # maps of matplotlib
NAMES = ("picture", *COLOURS, "outlines")


class Window(NamedTuple):
    """A part of a picture, pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def place(self) -> tuple[slice, slice]:
        """The rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    @property
    def factor(self) -> int:
        """By which its sides are divided before it is sent."""
        return -(-max(self.height, self.width) // LONGEST)


def whole(shape: tuple[int, ...]) -> Window:
    """Returns the window that is the whole picture of shape (H, W, ...)."""
    return Window(0, 0, shape[0], shape[1])


def around(row: Row, shape: tuple[int, ...]) -> Window:
    """Returns a square around an object, cut where it leaves a picture of shape (H, W, ...)."""
    side = round(max(SMALLEST, AROUND * max(row.height, row.width)))
    middle = row.top + row.height // 2, row.left + row.width // 2
    sides = [min(side, limit) for limit in shape[:2]]
    starts = [
        min(max(centre - length // 2, 0), limit - length)
        for centre, length, limit in zip(middle, sides, shape[:2], strict=True)
    ]
    return Window(*starts, *sides)


def layer(name: str, found: Predicted, answered: Answered, window: Window) -> tuple[bytes, str]:
    """Returns one of `NAMES` of a window as an image file, and its media type."""
    place, factor = window.place, window.factor
    if name == "outlines":
        known = answered.known
        table = np.array([INSIDE]) if known is None else colour_table(known)
        drawn = _all_outlines(answered.labels[..., *place], table, factor)
        for one in () if known is None else known.doubtful:
            _outline(drawn, one, window)
        return _png(drawn), "image/png"
    if name == "picture":
        return _jpeg(reduced(composite(found.image[place]), factor)), "image/jpeg"
    values = reduced(getattr(found, name)[place], factor)
    return _png(palette(COLOURS[name])[values]), "image/png"


def sample_outlines(sample: np.ndarray, window: Window) -> bytes:
    """Returns the outlines of a sample [H, W] bool in a window, as PNG."""
    return _png(outlines(sample[window.place].astype(np.uint8), np.array([TINT]), window.factor))


def thumbnail(image: np.ndarray, sample: np.ndarray, window: Window) -> bytes:
    """Returns a small picture of a window with the outlines of a sample, as JPEG."""
    factor = -(-max(window.height, window.width) // THUMBNAIL)
    small = reduced(composite(image[window.place]), factor)
    lines = outlines(sample[window.place].astype(np.uint8), np.array([TINT]), factor)
    return _jpeg(np.where(lines[..., 3:] > 0, lines[..., :3], small))


def outlines(labels: np.ndarray, table: np.ndarray, factor: int = 1) -> np.ndarray:
    """Draws the outlines of objects, each of its colour; between two that touch, both have one.

    A dark line around the objects is visible on any background.

    Args:
      labels: [H, W], 0 is background.
      table: [N, 3] colours by label; labels beyond have the last.
      factor: by which the sides are divided.

    Returns:
      [h, w, 4] uint8, transparent beside the lines.
    """
    left = small = block_labels(labels, factor)
    drawn, inside = np.zeros((*small.shape, 4), np.uint8), small > 0
    drawn[ndimage.binary_dilation(inside) & ~inside] = (*OUTSIDE, 255)
    for _ in range(max(1, round(max(small.shape) / 1000))):  # the width of the lines
        line = _edges(left)
        drawn[line, :3] = table[np.minimum(small[line], len(table) - 1)]
        drawn[line, 3] = 255
        left = np.where(line, 0, left)
    return drawn


def _all_outlines(labels: np.ndarray, table: np.ndarray, factor: int) -> np.ndarray:
    """Draws the outlines of labels [H, W], or of each class [C, H, W], the last above the rest."""
    first, *others = labels.reshape(-1, *labels.shape[-2:])
    drawn = outlines(first, table, factor)
    for own in (outlines(plane, table, factor) for plane in others):
        drawn = np.where(own[..., 3:] > 0, own, drawn)
    return drawn


def _edges(labels: np.ndarray) -> np.ndarray:
    """Marks the pixels of objects beside a pixel of another value; the border is no edge."""
    found = np.zeros(labels.shape, bool)
    for one, other in ((labels, found), (labels.T, found.T)):  # rows, columns
        differ = one[1:] != one[:-1]
        other[1:] |= differ
        other[:-1] |= differ
    return found & (labels > 0)


def _outline(drawn: np.ndarray, one: Doubtful, window: Window) -> None:
    """Draws the thin outline of a doubtful object where it lies in a window, as `overlay` does."""
    rows, columns = rim(one)
    rows, columns = rows - window.top, columns - window.left
    there = (rows >= 0) & (rows < window.height) & (columns >= 0) & (columns < window.width)
    drawn[rows[there] // window.factor, columns[there] // window.factor] = (*TINT, 255)


@cache
def palette(name: str) -> np.ndarray:
    """Returns the colours [256, 3] uint8 of a map of matplotlib."""
    import matplotlib  # slow to import

    return matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=92, subsampling=0)
    return stream.getvalue()
