"""Reads masks whose values are classes; values that no class has been given are refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdiff_jax.data.image_io import masks, reading
from segdiff_jax.data.image_io.headers import Limits, Pixels
from segdiff_jax.errors import bad_data

FIELD = "config.folder.classes"
_MAX_LISTED = 5  # values of a refused mask


class ClassMask(NamedTuple):
    """A mask of classes as read.

    Attributes:
        classes: [H, W] uint8, the number of each pixel's class, 0 for background.
        present: the values in the file.
    """

    classes: np.ndarray
    present: tuple[int, ...]


def read(
    path: Path,
    numbers: Mapping[int, int],
    limits: Limits = reading.NO_LIMITS,
    image: Path | None = None,
) -> ClassMask:
    """Reads a mask, turned as its EXIF orientation requires; of a palette the indices count.

    Args:
        path: of the file.
        numbers: of each value the number of its class, or 0; all values that there may be.
        limits: as for `masks.read_mask`.
        image: whose mask it is, likewise.

    Raises:
        UserError: it holds another value, colours, or what a lossy format made of values.
    """
    page = masks.page_of(path, limits.page, image)
    values = _values(path, reading.decode(path, limits._replace(channels=(), page=page)))
    present, place = np.unique(values, return_inverse=True)
    if unknown := [str(value) for value in present.tolist() if value not in numbers]:
        more = f" and {len(unknown) - _MAX_LISTED} more" if len(unknown) > _MAX_LISTED else ""
        listed = ", ".join(unknown[:_MAX_LISTED])
        known = ", ".join(map(str, sorted(numbers)))
        what = f"holds the value{'s' if len(unknown) > 1 else ''} {listed}{more}, which {FIELD}"
        way = "background=VALUE leaves a value out"
        raise bad_data(path, f"{what} gives to no class; it has {known}; {way}")
    table = np.array([numbers[value] for value in present.tolist()], np.uint8)
    return ClassMask(table[place.reshape(values.shape)], tuple(present.tolist()))


def _values(path: Path, pixels: Pixels) -> np.ndarray:
    """Returns the values [H, W] int64 of a mask."""
    values = pixels.values
    if pixels.lossy:
        raise bad_data(path, "is of a lossy format, which blurs values; keep class masks as PNG")
    if pixels.palette is None:
        reading.check_opaque(path, pixels)
        if pixels.inverted:
            raise bad_data(path, "is a TIFF with 0 for white; in a mask allowed is 0 for black")
    if values.ndim == 3:
        if pixels.mode == "CMYK" or not (values == values[..., :1]).all():
            raise bad_data(path, "is coloured; a mask of classes has one value a pixel")
        values = values[..., 0]
    values = masks.whole_numbers(path, values) if values.dtype.kind == "f" else values
    return values.astype(np.int64)
