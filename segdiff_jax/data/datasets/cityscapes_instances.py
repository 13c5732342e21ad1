"""Cityscapes objects of one class in one frame, from its image of instance ids.

The ids are 1000 * label id + k, and what is hidden by other objects does not have them. An object
may be of several pieces, may have holes, and may end at the border of the image.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from segdiff_jax import errors
from segdiff_jax.data.datasets.cityscapes_polygons import INSTANCES, LABEL_IDS
from segdiff_jax.data.image_io import decoding, headers
from segdiff_jax.data.object_crops import Box

MIN_AREA = 100  # pixels; a piece must have more


MIN_AGREEMENT = 0.5  # intersection over union of ids and drawn polygon


TOUCHING = np.ones((3, 3), int)  # pixels that share a side or a corner are of one piece


class Instance(NamedTuple):
    """One object.

    Attributes:
        id: its instance id.
        box: (top, left, height, width) of all that is seen of it, pixels.
        mask: [height, width] uint8 in {0, 1}, its large pieces within the box.
    """

    id: int
    box: Box
    mask: np.ndarray


def read(path: Path, limits: headers.Limits) -> np.ndarray:
    """Reads a `*_gtFine_instanceIds.png`, [H, W] int32.

    Raises:
        UserError: the file is missing, damaged, too large, or not 16-bit grey.
    """
    ids = decoding.decode(path, limits).deep
    if ids is None or ids.ndim != 2:
        raise errors.UserError(
            f"{path}: is not 16-bit grey, as official instance ids are", errors.BAD_DATA
        )
    return ids.astype(np.int32)


def instances(ids: np.ndarray, label: str) -> Iterator[Instance]:
    """Yields the objects of a class that have a large piece, by ascending id.

    Args:
        ids: [H, W] int32.
        label: a key of LABEL_IDS.
    """
    first = LABEL_IDS[label] * INSTANCES
    present = np.bincount(ids.ravel(), minlength=first + INSTANCES)
    for k in np.flatnonzero(present[first : first + INSTANCES]):
        visible = ids == first + k
        rows, columns = (np.flatnonzero(visible.any(axis)) for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        bottom, right = int(rows[-1]) + 1, int(columns[-1]) + 1
        mask = _large_pieces(visible[top:bottom, left:right])
        if mask.any():
            yield Instance(int(first + k), (top, left, bottom - top, right - left), mask)


def _large_pieces(visible: np.ndarray) -> np.ndarray:
    pieces = np.empty(visible.shape, np.int32)
    ndimage.label(visible, TOUCHING, output=pieces)
    large = np.bincount(pieces.ravel()) > MIN_AREA
    large[0] = False  # the background
    return large[pieces].astype(np.uint8)


def agreement(ids: np.ndarray, drawn: np.ndarray, instance: int) -> float:
    """Returns the intersection over union of one object in two images of ids; 0: in neither."""
    a, b = ids == instance, drawn == instance
    return float((a & b).sum() / max((a | b).sum(), 1))
