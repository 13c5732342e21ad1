"""Finds the objects of one class in a Cityscapes frame, in its image of instance ids.

The ids are 1000 * label id + k, and an object has only the pixels that others do not hide. An
object may be of several pieces, may have holes, and may end at the border of the image. What an
annotator could not tell apart ("cargroup" and the like) has an id below 1000 and is no instance.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from segdiff_jax.data.image_io import reading
from segdiff_jax.data.object_crops import Box
from segdiff_jax.errors import bad_data

# Of the public scripts (github.com/mcordts/cityscapesScripts).
LABEL_IDS = {"person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31}
LABEL_IDS |= {"motorcycle": 32, "bicycle": 33}
IDS_PER_LABEL = 1000  # 1000 * label id + 0..999
MIN_AREA = 100  # pixels; a piece must have more
_EIGHT_NEIGHBOURS = np.ones((3, 3), int)  # pixels that share a side or a corner are of one piece


class Instance(NamedTuple):
    """One object.

    Attributes:
        id: its instance id.
        box: (top, left, height, width) of all its visible pixels.
        mask: [height, width] uint8 in {0, 1}, its large pieces within the box.
    """

    id: int
    box: Box
    mask: np.ndarray


def read_ids(path: Path, limits: reading.Limits) -> np.ndarray:
    """Reads a `*_gtFine_instanceIds.png`, [H, W] int32.

    Raises:
        UserError: the file is missing, damaged, too large, or not 16-bit grey.
    """
    pixels = reading.decode(path, limits._replace(channels=()))
    if pixels.mode != "grey" or pixels.values.dtype != np.uint16:
        raise bad_data(path, "is not 16-bit grey, as official instance ids are")
    return pixels.values.astype(np.int32)


def instances(ids: np.ndarray, label: str) -> Iterator[Instance]:
    """Yields the objects of a class (a key of LABEL_IDS) with a large piece in [H, W], by id."""
    first = LABEL_IDS[label] * IDS_PER_LABEL
    present = np.bincount(ids.ravel(), minlength=first + IDS_PER_LABEL)
    for k in np.flatnonzero(present[first : first + IDS_PER_LABEL]):
        visible = ids == first + k
        rows, columns = (np.flatnonzero(visible.any(axis)) for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        bottom, right = int(rows[-1]) + 1, int(columns[-1]) + 1
        mask = _large_pieces(visible[top:bottom, left:right])
        if mask.any():
            yield Instance(int(first + k), (top, left, bottom - top, right - left), mask)


def _large_pieces(visible: np.ndarray) -> np.ndarray:
    pieces = np.empty(visible.shape, np.int32)
    ndimage.label(visible, _EIGHT_NEIGHBOURS, output=pieces)
    large = np.bincount(pieces.ravel()) > MIN_AREA
    large[0] = False  # the background
    return large[pieces].astype(np.uint8)
