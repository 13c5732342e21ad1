"""Crops examples of one object: the window around its box for training and for scoring.

A window is the box of the object, its height and width enlarged by a percentage, half on each side,
rounded half to even and clipped at the border of the image. That is the rule of SegDiff's released
code: 15 % for its "expansion" protocol, 0 for "tight", and a whole number of 10..20 % in training.
"""

import hashlib
from fractions import Fraction

import numpy as np

from segdiff_jax.data import resize
from segdiff_jax.data.crops import CropFn
from segdiff_jax.data.example import Example

MARGIN = 20  # percent; prepared examples hold no more than this around the box
Box = tuple[int, int, int, int]  # top, left, height, width, pixels


def window(box: Box, percent: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Returns (top, left, bottom, right) around a box; the last two are exclusive.

    The window is larger than the box by a percentage, within an image of this height and width.
    """
    top, left, rows, columns = box
    return (
        max(_moved(top, -rows * percent), 0),
        max(_moved(left, -columns * percent), 0),
        min(_moved(top + rows, rows * percent), height),
        min(_moved(left + columns, columns * percent), width),
    )


def _moved(edge: int, by: int) -> int:
    """Returns edge + by / 200, rounded half to even."""
    return round(Fraction(200 * edge + by, 200))  # exact on every machine


def stored_window(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """Returns the window that a prepared example stores: the largest, from an even row and column.

    Halves are rounded to even, so moving the origin by an odd number would move some windows by a
    pixel; from an even origin, `window` returns the same pixels as in the whole image.
    """
    top, left, bottom, right = window(box, MARGIN, height, width)
    return top - top % 2, left - left % 2, bottom, right


def train_crop(size: int, low: int, high: int, redraw: bool, seed: int) -> CropFn:
    """Returns the crop of a window that is larger than the box by a random whole percentage.

    Args:
        size: the window is resized to size x size pixels, the image bilinear without antialiasing
            and rounded to whole numbers, the mask nearest.
        low: smallest percentage, at least 0.
        high: largest percentage, at most MARGIN; all from `low` to it are equally likely.
        redraw: draws it at every visit; False: once per object, a function of `seed` and its name.
        seed: for redraw=False.
    """

    def crop(generator: np.random.Generator, example: Example) -> tuple[np.ndarray, np.ndarray]:
        drawn = generator.random() if redraw else _once(seed, example.name)
        image, mask = _cut(example, low + int(drawn * (high - low + 1)))
        return _resized(image, size), resize.nearest(mask, (size, size))

    return crop


def eval_crop(example: Example, percent: int, size: int) -> Example:
    """Returns the part of a prepared object that is predicted and scored.

    Args:
        example: with a box.
        percent: by which the window is larger than the box, 0..MARGIN; 0: tight.
        size: of the image, as for `train_crop`.

    Returns:
        The image resized, the mask and its class map at the window's own size, no box, the same
        name and group.
    """
    image, mask = _cut(example, percent)
    found = Example(_resized(image, size), mask, example.name, group=example.group)
    if example.classes is None:
        return found
    return found._replace(classes=_cut(example._replace(mask=example.classes), percent)[1])


def _cut(example: Example, percent: int) -> tuple[np.ndarray, np.ndarray]:
    assert example.box, example.name
    top, left, bottom, right = window(example.box, percent, *example.mask.shape)
    return example.image[top:bottom, left:right], example.mask[top:bottom, left:right]


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    return np.rint(resize.bilinear(image, (size, size))).astype(np.uint8)


def _once(seed: int, name: str) -> float:
    """Returns a pseudo-random number in [0, 1), a function of seed and name."""
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, digest)))).random()
