"""Reads images from files: exactly what they show, or one line with the problem.

An image may be grey, RGB, CMYK or of a palette, of any number of bits a channel; more than 8 are
scaled to 8 by a range that `value_range` finds and names. Nothing else is guessed: transparency,
several pages and channels without a meaning are refused. `masks` reads masks.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from segdiff_jax.data.image_io import (
    headers,
    numpy_files,
    pillow_files,
    tiff_files,
    value_range,
)
from segdiff_jax.data.image_io.headers import Limits, Pixels, RefusedError
from segdiff_jax.errors import bad_data

# in any case
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".npy")
OF_CELLPOSE = "_seg.npy"  # the end of files of Python objects beside images, which are no images
NO_LIMITS = Limits()


class ReadImage(NamedTuple):
    """An image as read.

    Attributes:
        pixels: [H, W, 3] uint8, RGB.
        values: what more than 8 bits were made to: the values of the file, and those that became
            black and white; "" for an image of up to 8 bits.
    """

    pixels: np.ndarray
    values: str


def is_image_name(path: Path) -> bool:
    """Returns whether a name has the suffix of an image and is not hidden; opens no file."""
    hidden = path.name.startswith(".") or path.name.lower().endswith(OF_CELLPOSE)
    return path.suffix.lower() in SUFFIXES and not hidden


def list_images(directory: Path) -> list[Path]:
    """Returns everything in a directory that has the name of an image, sorted by name.

    Raises:
        UserError: the directory cannot be listed.
    """
    try:
        return sorted(path for path in directory.iterdir() if is_image_name(path))
    except OSError as error:
        raise bad_data(directory, f"cannot be listed ({error.strerror})") from error


def kinds(files: Iterable[Path]) -> str:
    """Returns how many files there are of each kind, as "3 .txt, 1 hidden"."""
    counts = Counter(_kind(file) for file in files)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {kind}" for kind, count in ordered)


def _kind(file: Path) -> str:
    return "hidden" if file.name.startswith(".") else file.suffix.lower() or "without suffix"


def ignored(directory: Path) -> str:
    """Returns what `list_images` leaves out of a directory, as `kinds`; "" if nothing."""
    return kinds(file for file in directory.iterdir() if not (is_image_name(file) or file.is_dir()))


def read_size(path: Path, limits: Limits = NO_LIMITS) -> tuple[int, int]:
    """Returns the (height, width) of what `read_image` returns, from the header alone.

    Raises:
        UserError: the header cannot be read.
    """
    with headers.open_image(path) as (file, format):
        return _library(format).read_size(file, limits)


def count_pages(path: Path) -> int:
    """Returns of how many pages `config.reading.page` chooses one: 1 but for some TIFF files.

    Raises:
        UserError: the pages cannot be read.
    """
    with headers.open_image(path) as (file, format):
        return tiff_files.count_pages(file) if format == "TIFF" else 1


def decode(path: Path, limits: Limits = NO_LIMITS) -> Pixels:
    """Reads the values that a file holds, exactly.

    Raises:
        UserError: the file cannot be decoded exactly, or is beyond the limits.
    """
    with headers.open_image(path) as (file, format):
        return _library(format).decode(file, limits)


def _library(format: str):
    return {"TIFF": tiff_files, "NPY": numpy_files}.get(format, pillow_files)


def read_image(path: Path, limits: Limits = NO_LIMITS) -> np.ndarray:
    """Returns the pixels of `read`."""
    return read(path, limits).pixels


def read(path: Path, limits: Limits = NO_LIMITS) -> ReadImage:
    """Reads an image, turned as its EXIF orientation requires.

    CMYK becomes RGB without colour management.

    Raises:
        UserError: the file cannot be shown as RGB, but for the rounding of more than 8 bits, or is
            beyond the limits.
    """
    pixels, note = decode(path, limits), ""
    palette, values = pixels.palette, pixels.values
    if palette is not None and values.max() >= len(palette):
        index = values.max()
        raise bad_data(path, f"uses the palette index {index}, but has {len(palette)} colours")
    check_opaque(path, pixels)
    if palette is not None:
        values = palette[values, :3]
        if limits.channels:
            values = headers.selected(values, limits.channels)
    elif values.dtype == bool:
        values = values * np.uint8(255)
    elif values.dtype != np.uint8:
        values, note = of_8_bits(path, pixels, limits)
    if pixels.mode == "CMYK":
        cmyk = np.ascontiguousarray(values)
        values = np.asarray(Image.frombuffer("CMYK", cmyk.shape[1::-1], cmyk).convert("RGB"))
    elif values.ndim == 2:
        values = values[..., None]
    image = np.empty((*values.shape[:2], 3), np.uint8)
    image[:] = values
    return ReadImage(image, note)


def check_opaque(path: Path, pixels: Pixels) -> None:
    """Raises UserError if an image has transparent pixels."""
    if pixels.transparent is not None:
        problem = f"makes the colour {pixels.transparent} transparent"
    else:
        alpha = pixels.alpha if pixels.palette is None else pixels.palette[pixels.values, 3]
        if alpha is None or not (count := np.count_nonzero(alpha < _opaque(alpha.dtype))):
            return
        problem = f"{count} of {alpha.size} pixels are transparent"
    raise bad_data(path, f"{problem}; allowed is full opacity: put it on a background first")


def check_same_size(file: Path, shape: Sequence[int], allowed: Sequence[int], owner: str) -> None:
    """Raises UserError unless the array of a file is as high and wide as that of its owner."""
    found, wanted = ("x".join(map(str, sides[:2])) for sides in (shape, allowed))
    if found != wanted:
        raise bad_data(file, f"has {found} pixels; allowed is {wanted}, the size of {owner}")


def _opaque(dtype: np.dtype) -> float:
    return np.iinfo(dtype).max if dtype.kind in "ui" else 1.0


def of_8_bits(path: Path, pixels: Pixels, limits: Limits) -> tuple[np.ndarray, str]:
    """Returns values of more than 8 bits as uint8, and what they were."""
    try:
        if pixels.values.dtype.kind == "f" and limits.float_range:
            _check_floats(pixels.values, limits.float_range)
            low, high = limits.float_range
            chosen = value_range.Range(low, high, "as given")
        else:
            chosen = value_range.find(pixels, limits.value_range)
        return value_range.scaled(pixels, chosen), value_range.describe(pixels, chosen)
    except RefusedError as error:
        raise bad_data(path, str(error)) from error


def _check_floats(values: np.ndarray, allowed: tuple[float, ...]) -> None:
    if count := np.count_nonzero(~np.isfinite(values)):
        raise RefusedError(f"{count} of {values.size} values are NaN or infinite; none may be")
    low, high = allowed
    if values.min() < low or values.max() > high:
        found = f"holds floats from {values.min():g} to {values.max():g}"
        raise RefusedError(f"{found}; config.reading.float_range allows {low:g} to {high:g}")
