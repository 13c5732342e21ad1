"""Reads images and masks from files: exactly what they show, or one line with the problem.

An image may be grey, RGB, CMYK or of a palette, of 8 or 16 bits a channel. Nothing is guessed:
transparency, floats without a range, several pages and masks of more than two values are refused.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from PIL import Image

from segdiff_jax.data.image_io import headers, pillow_files, tiff_files
from segdiff_jax.data.image_io.headers import Limits, Pixels
from segdiff_jax.errors import bad_data

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")  # in any case
_LIBRARIES = {"PNG": pillow_files, "JPEG": pillow_files, "TIFF": tiff_files}
_NO_LIMITS = Limits()
_TO_8_BITS = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # 65535 / 257 = 255
_MAX_LISTED = 5  # values of a refused mask
_NEAR = 48  # of 0 or 255: what JPEG makes of these, down to its usual quality of 75


class MaskFile(NamedTuple):
    """A mask as read.

    Attributes:
        pixels: [H, W] uint8 in {0, 1}, 1 is foreground.
        top: the value of foreground in the file: 1, or 255 (also for the 65535 of 16 bits), or 0
            if there is none.
    """

    pixels: np.ndarray
    top: int


def is_image_name(path: Path) -> bool:
    """Returns whether a name has the suffix of an image and is not hidden; opens no file."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def list_images(directory: Path) -> list[Path]:
    """Returns everything in a directory that has the name of an image, sorted by name.

    Raises:
        UserError: the directory cannot be listed.
    """
    try:
        return sorted(path for path in directory.iterdir() if is_image_name(path))
    except OSError as error:
        raise bad_data(directory, f"cannot be listed ({error.strerror})") from error


def read_size(path: Path, limits: Limits = _NO_LIMITS) -> tuple[int, int]:
    """Returns the (height, width) of what `read_image` returns, from the header alone.

    Raises:
        UserError: the header cannot be read.
    """
    with headers.open_image(path) as (file, format):
        return _LIBRARIES[format].read_size(file, limits)


def decode(path: Path, limits: Limits = _NO_LIMITS) -> Pixels:
    """Reads the values that a file holds, exactly.

    Raises:
        UserError: the file cannot be decoded exactly, or is beyond the limits.
    """
    with headers.open_image(path) as (file, format):
        return _LIBRARIES[format].decode(file, limits)


def read_image(path: Path, limits: Limits = _NO_LIMITS) -> np.ndarray:
    """Reads an image, turned as its EXIF orientation requires.

    Returns:
        [H, W, 3] uint8, RGB. 16 bits are divided by 257 and rounded; CMYK becomes RGB without
        colour management.

    Raises:
        UserError: the file cannot be shown as RGB without a loss beyond that, or is beyond the
            limits.
    """
    pixels = decode(path, limits)
    palette, values = pixels.palette, pixels.values
    if palette is not None and values.max() >= len(palette):
        index = values.max()
        raise bad_data(path, f"uses the palette index {index}, but has {len(palette)} colours")
    _check_opaque(path, pixels)
    if palette is not None:
        values = palette[values, :3]
    else:
        values = _of_8_bits(path, values, limits)
    if pixels.mode == "CMYK":
        cmyk = np.ascontiguousarray(values)
        values = np.asarray(Image.frombuffer("CMYK", cmyk.shape[1::-1], cmyk).convert("RGB"))
    elif values.ndim == 2:
        values = values[..., None]
    image = np.empty((*values.shape[:2], 3), np.uint8)
    image[:] = values
    return image


def read_mask(path: Path, limits: Limits = _NO_LIMITS) -> MaskFile:
    """Reads a mask, turned as its EXIF orientation requires.

    Its values are 0 and 1, 0 and 255, or 0 and 65535. Of a palette the indices count, not the
    colours; colour channels must be equal to each other. JPEG blurs 0 and 255: such a file is a
    mask if each of its values is less than 48 from one of the two, which it then stands for.

    Raises:
        UserError: there are other values, or the file cannot be read exactly.
    """
    pixels = decode(path, limits)
    values = pixels.values
    if pixels.mode != "palette":
        _check_opaque(path, pixels)
    if pixels.mode == "CMYK" or values.dtype.kind == "f":
        kind = "floats" if values.dtype.kind == "f" else "pixels of mode CMYK"
        raise bad_data(path, f"holds {kind}; a mask holds 0 and 1, or 0 and 255, in one channel")
    if pixels.inverted:
        raise bad_data(path, "is a TIFF with 0 for white; in a mask allowed is 0 for black")
    advice = ": JPEG is lossy, so keep masks as PNG" if pixels.lossy else ""
    if values.ndim == 3:
        if not (values == values[..., :1]).all():
            what = "is coloured; a mask is grey, or its palette's indices count"
            raise bad_data(path, what + advice)
        values = values[..., 0]
    if pixels.lossy and values.dtype == np.uint8:
        values = _without_blur(path, values)
    top = int(values.max())
    if top not in (0, 1, 255, 65535) or not ((values == 0) | (values == top)).all():
        raise bad_data(path, _other_values(values, pixels.mode) + advice)
    return MaskFile((values != 0).astype(np.uint8), min(top, 255))


def _without_blur(path: Path, values: np.ndarray) -> np.ndarray:
    """Returns the values of a JPEG of 0 and 255 with these two; of another, as they are."""
    low, high = values < _NEAR, values > 255 - _NEAR
    if ((values == 0) | (values == 255)).all() or not (low | high).all() or not high.any():
        return values
    logging.log_first_n(
        logging.INFO,
        "%s: a JPEG mask; values below %d are read as 0, values above %d as 255",
        1,
        *(path, _NEAR, 255 - _NEAR),
    )
    return np.where(high, np.uint8(255), np.uint8(0))


def _check_opaque(path: Path, pixels: Pixels) -> None:
    if pixels.transparent is not None:
        problem = f"makes the colour {pixels.transparent} transparent"
    else:
        alpha = pixels.alpha if pixels.palette is None else pixels.palette[pixels.values, 3]
        if alpha is None or not (count := np.count_nonzero(alpha < np.iinfo(alpha.dtype).max)):
            return
        problem = f"{count} of {alpha.size} pixels are transparent"
    raise bad_data(path, f"{problem}; allowed is full opacity: put it on a background first")


def _of_8_bits(path: Path, values: np.ndarray, limits: Limits) -> np.ndarray:
    """Returns the values as uint8: 16 bits divided by 257, floats scaled by their range."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return _TO_8_BITS[values]
    if values.dtype == bool:
        return values * np.uint8(255)
    if values.dtype.kind != "f":
        sign = "with a sign" if values.dtype.kind == "i" else "without sign"
        found = f"holds integers of {8 * values.dtype.itemsize} bits {sign}"
        raise bad_data(path, f"{found}; allowed are 8 or 16 bits a channel without sign")
    if count := np.count_nonzero(~np.isfinite(values)):
        raise bad_data(path, f"{count} of {values.size} pixels are NaN or infinite; none may be")
    found = f"holds floats from {values.min():g} to {values.max():g}"
    if not limits.float_range:
        raise bad_data(path, f"{found}; config.reading.float_range=(low, high) would allow it")
    low, high = limits.float_range
    if values.min() < low or values.max() > high:
        raise bad_data(path, f"{found}; config.reading.float_range allows {low:g} to {high:g}")
    return np.rint((values.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def _other_values(values: np.ndarray, mode: str) -> str:
    found = [str(value) for value in np.unique(values)]
    more = f" and {len(found) - _MAX_LISTED} more" if len(found) > _MAX_LISTED else ""
    kind = "palette indices" if mode == "palette" else "values"
    listed = ", ".join(found[:_MAX_LISTED])
    return f"mask holds the {kind} {listed}{more}; allowed are 0 and 1, or 0 and 255"
