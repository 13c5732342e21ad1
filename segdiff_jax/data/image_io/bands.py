"""Reads images of named channels, 1 to 16: fluorescence, multispectral; all as they are, no RGB.

Each channel of more than 8 bits is scaled to 8 by a range of its own (`value_range`), as the
channels of a microscope have little to do with one another.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segdiff_jax.data.image_io import (
    arrays,
    headers,
    numpy_files,
    pillow_files,
    reading,
    tiff_files,
)
from segdiff_jax.data.image_io.headers import Limits, Pixels, RefusedError
from segdiff_jax.data.image_io.reading import ReadImage
from segdiff_jax.errors import bad_data

FIELD = "config.data.channels"


def read(path: Path, names: Sequence[str], limits: Limits = reading.NO_LIMITS) -> ReadImage:
    """Reads an image [H, W, C] uint8 of these channels; () reads RGB, see `reading.read`.

    An alpha of PNG and TIFF counts as a channel where the names ask for it.

    Raises:
        UserError: the file has another number of channels, a palette, or cannot be read exactly.
    """
    if not names:
        return reading.read(path, limits)
    with headers.open_image(path) as (file, format):
        if format in ("TIFF", "NPY"):
            library = tiff_files if format == "TIFF" else numpy_files
            count = library.count_channels(file, limits)
            if count > len(names):
                raise RefusedError(f"has {_counted(count)}; allowed are {_wanted(names)}")
            pixels = library.decode(file, limits._replace(channels=tuple(range(count))))
        else:
            pixels = pillow_files.decode(file, limits._replace(channels=()))
    if pixels.palette is not None:
        raise bad_data(path, f"has a palette; allowed are {_wanted(names)}")
    values = pixels.values if pixels.values.ndim == 3 else pixels.values[..., None]
    if pixels.alpha is not None and values.shape[-1] < len(names):
        values = np.concatenate([values, pixels.alpha[..., None]], axis=-1)
    if values.shape[-1] != len(names):
        raise bad_data(path, f"has {_counted(values.shape[-1])}; allowed are {_wanted(names)}")
    found = [_of_8_bits(path, values[..., k], pixels, limits) for k in range(len(names))]
    notes = [f"{name} {note}" for name, (_, note) in zip(names, found, strict=True) if note]
    return ReadImage(np.stack([of for of, _ in found], axis=-1), "; ".join(notes))


def _of_8_bits(
    path: Path, values: np.ndarray, pixels: Pixels, limits: Limits
) -> tuple[np.ndarray, str]:
    """Returns a channel [H, W] as uint8, and what it was if it had more bits."""
    if values.dtype == bool:
        return values * np.uint8(255), ""
    if values.dtype == np.uint8:
        return values, ""
    return reading.of_8_bits(path, pixels._replace(values=values), limits)


def of_array(image: Any, names: Sequence[str], setting: str = "auto") -> np.ndarray:
    """Returns what NumPy makes an array of, [H, W, C] or [H, W] of one channel, as uint8.

    Args:
        image: uint8 and bool are taken as they are; uint16 and floats are scaled channel by
            channel, floats of 0..1 or 0..255. () of names: see `arrays.to_rgb`.
        names: of the channels.
        setting: of the range of uint16, `config.reading.value_range`.

    Raises:
        ValueError: it has another number of channels, or another type.
    """
    if not names:
        return arrays.to_rgb(image, setting)
    values = np.asarray(image)
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or 0 in values.shape or values.shape[-1] != len(names):
        what = f"the image has the shape {values.shape}"
        raise ValueError(f"{what}; allowed are arrays [H, W, {len(names)}] of {_wanted(names)}")
    return np.stack([arrays.of_8_bits(values[..., k], setting) for k in range(len(names))], -1)


def _counted(count: int) -> str:
    return f"{count} channel{'s' if count > 1 else ''}"


def _wanted(names: Sequence[str]) -> str:
    return f"the {len(names)} of {FIELD}: {', '.join(names)}"
