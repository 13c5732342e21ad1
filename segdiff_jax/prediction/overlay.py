"""Draws an image with the outline of its mask, and a tint where the generations disagree."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from segdiff_jax.certainty.answers import Objects
from segdiff_jax.certainty.doubtful import Doubtful
from segdiff_jax.data.classes import member
from segdiff_jax.evaluation.class_colours import COLOURS, PALETTE

# A light line beside a dark one is visible on any background, also without colour vision.
INSIDE, OUTSIDE = (255, 230, 0), (0, 0, 0)
UNSURE = (225, 0, 150)  # of INSIDE, at a confidence of 0: darker, too, on the way
INNER, OUTER = (0, 220, 0), (255, 0, 200)  # outlines of the masks of a risk
TINT = (0, 150, 255)
TINT_FROM, TINT_FULL = 0.1, 0.35  # standard deviations at which the tint begins and is full
STRENGTH = 0.7  # of the full tint; the image stays visible below
LONGEST = 4096  # pixels of the longer side; larger images are reduced
CELL, GAP, PAPER = 240, 8, 128  # of a grid: pixels of a picture and around it; their grey
STRIP = 256  # rows of the result that are computed at a time: bounds memory


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    uncertainty: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
    objects: Objects | None = None,
    classes: np.ndarray | None = None,
    overlap: bool = False,
) -> np.ndarray:
    """Draws the overlay; if a side is longer than `LONGEST`, all are divided by an integer.

    Args:
      image: [H, W, 3] uint8.
      mask: [H, W] uint8, 0 is background, 255 foreground.
      uncertainty: [H, W] uint16, 65535 is a standard deviation of one half.
      bounds: inner and outer mask like `mask`, of which thin outlines are drawn in place of it.
      objects: of the mask, whose outlines have the colour of how sure they are, and of the samples,
        whose outlines are thin and in the colour of the tint; None: all are as if sure.
      classes: [H, W] uint8, the class map of the mask, by which outlines have the colours of their
        classes in place of how sure they are; None: it has no classes.
      overlap: whether classes do; then each has its own outlines, the last above all others.

    Returns:
      [h, w, 3] uint8.
    """
    factor = -(-max(mask.shape) // LONGEST)
    picture, spread = reduced(image, factor), reduced(uncertainty, factor)
    for top in range(0, len(picture), STRIP):
        rows = slice(top, top + STRIP)
        picture[rows] = _tinted(picture[rows], spread[rows])
    if bounds is not None:
        for of_risk, colour in zip(bounds, (INNER, OUTER), strict=True):
            inside = reduced(of_risk, factor) > 127
            picture[inside & ~ndimage.binary_erosion(inside, border_value=1)] = colour
        return picture
    if classes is not None and overlap:
        return _of_each(picture, classes, objects, factor)
    colours = _of_outlines(classes, objects, factor)
    return _with_outlines(picture, reduced(mask, factor) > 127, objects, factor, colours)


def _of_outlines(
    classes: np.ndarray | None, objects: Objects | None, factor: int
) -> np.ndarray | None:
    """Returns the colours [h, w, 3] uint8 of outlines; None: all are as if sure."""
    if classes is not None:
        return PALETTE[block_labels(classes, factor)]
    return None if objects is None else _colours(objects, factor)


def _of_each(
    picture: np.ndarray, classes: np.ndarray, objects: Objects | None, factor: int
) -> np.ndarray:
    """Draws the outlines of each class that overlaps into a picture, and returns it."""
    for k, colour in enumerate(COLOURS, 1):
        own = member(classes, k, True)
        if own.any():
            of_class = np.broadcast_to(np.array(colour, np.uint8), picture.shape)
            inside = reduced(own * np.uint8(255), factor) > 127
            picture = _with_outlines(picture, inside, objects, factor, of_class)
    return picture


def _with_outlines(
    picture: np.ndarray,
    inside: np.ndarray,
    objects: Objects | None,
    factor: int,
    colours: np.ndarray | None,
) -> np.ndarray:
    """Draws the outlines of a mask [h, w] into a picture, and returns it; see `overlay`."""
    for one in () if objects is None else objects.doubtful:
        if math.isnan(one.confidence):  # else it is in the mask
            _outline(picture, one, factor)
    for _ in range(max(1, round(max(inside.shape) / 1000))):  # the width of the lines
        shrunk = ndimage.binary_erosion(inside, border_value=1)
        picture[ndimage.binary_dilation(inside) & ~inside] = OUTSIDE
        line = inside & ~shrunk
        picture[line] = INSIDE if colours is None else colours[line]
        inside = shrunk
    return picture


def _colours(objects: Objects, factor: int) -> np.ndarray:
    """Returns the colour of the object at each pixel, [h, w, 3] uint8; `INSIDE` beside objects."""
    colours = colour_table(objects)[block_labels(objects.labels, factor)]
    for one in objects.doubtful:
        if not math.isnan(one.confidence):
            rows, columns = np.nonzero(one.pixels)
            place = (one.top + rows) // factor, (one.left + columns) // factor
            colours[place] = _tone(np.array([one.confidence]))
    return colours


def colour_table(objects: Objects) -> np.ndarray:
    """Returns the colour of each object, [1 + N, 3] uint8; the first is `INSIDE`.

    It is of the confidence, the agreement or the probability, the first that is known.
    """
    of = (objects.confidence, objects.held, objects.probability)
    sure = next((x for x in of if len(x) == len(objects.area) and np.isfinite(x).all()), of[-1])
    return _tone(np.concatenate([[1.0], sure]))


def _tone(sure: np.ndarray) -> np.ndarray:
    """Returns the colours [N, 3] uint8 of outlines of objects that are so sure, [N]."""
    weight = np.clip(sure, 0, 1)[:, None]
    return np.rint(np.array(UNSURE) * (1 - weight) + np.array(INSIDE) * weight).astype(np.uint8)


def block_labels(labels: np.ndarray, factor: int) -> np.ndarray:
    """Returns the highest label of factor x factor pixels, which is 0 only where all are."""
    for axis in (0, 1):
        labels = np.maximum.reduceat(labels, np.arange(0, labels.shape[axis], factor), axis=axis)
    return labels


def _outline(picture: np.ndarray, one: Doubtful, factor: int) -> None:
    """Draws the thin outline of a doubtful object into a picture, in the colour of the tint."""
    rows, columns = rim(one)
    picture[rows // factor, columns // factor] = TINT


def rim(one: Doubtful) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows and columns of the pixels of a doubtful object beside its outside."""
    pixels = np.pad(one.pixels, 1)
    rows, columns = np.nonzero(pixels & ~ndimage.binary_erosion(pixels))
    return rows - 1 + one.top, columns - 1 + one.left


def grid(pictures: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Draws images with the outlines of their masks side by side, each as large as a `CELL`.

    Args:
      pictures: images [H, W, 3] uint8 and masks [h, w] uint8 of 0 and 1; at least one.

    Returns:
      [h, w, 3] uint8.
    """
    columns = math.isqrt(len(pictures) - 1) + 1
    rows = -(-len(pictures) // columns)
    page = np.full((rows * (CELL + GAP) + GAP, columns * (CELL + GAP) + GAP, 3), PAPER, np.uint8)
    for index, (image, mask) in enumerate(pictures):
        factor = CELL / max(image.shape[:2])
        width, height = (max(round(side * factor), 1) for side in image.shape[1::-1])
        small = np.array(Image.fromarray(image).resize((width, height)))
        shape = Image.fromarray(mask * np.uint8(255)).resize((width, height))
        drawn = overlay(small, np.array(shape), np.zeros((height, width), np.uint16))
        top, left = (GAP + place * (CELL + GAP) for place in divmod(index, columns))
        page[top : top + height, left : left + width] = drawn
    return page


def reduced(values: np.ndarray, factor: int) -> np.ndarray:
    """Returns means over factor x factor pixels as uint8; of uint16 the upper eight bits."""

    def strip(rows: np.ndarray) -> np.ndarray:
        rows = (rows >> 8).astype(np.uint8) if rows.dtype == np.uint16 else rows
        return np.asarray(Image.fromarray(rows).reduce(factor))

    step = STRIP * factor  # a copy of the whole image would double the memory
    return np.concatenate([strip(values[top : top + step]) for top in range(0, len(values), step)])


def _tinted(picture: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Blends [h, w, 3] uint8 with `TINT` by a spread [h, w] of 0..255, where 255 is 0.5."""
    deviation = spread[..., None].astype(np.float32) / 255 / 2
    weight = STRENGTH * np.clip((deviation - TINT_FROM) / (TINT_FULL - TINT_FROM), 0, 1)
    return np.rint(picture * (1 - weight) + np.array(TINT, np.float32) * weight).astype(np.uint8)
