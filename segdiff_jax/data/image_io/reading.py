"""Images and masks from files: exactly what they show, or one line that says what is wrong.

An image may be grey, RGB, CMYK or of a palette, of 8 or 16 bits a channel. Nothing is guessed:
transparency, floats without a range, several pages and masks of more than two values are refused.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from segdiff_jax.data.image_io import decoding, headers, tiff_tags
from segdiff_jax.data.image_io.headers import Limits

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")  # in any case


_NONE = Limits()


_COLOURS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr")  # Pillow's modes


_MASKS = ("1", "L", "LA", "P", "RGB", "RGBA", "I")


_KINDS = {"I": "integers of 32 bits or with a sign", "F": "floats"}


_TO_8_BITS = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # 65535 / 257 = 255


_FAX = ("tiff_ccitt", "group3", "group4")  # where 0 for white is usual, and shown as it is meant


_LISTED = 5  # values of a mask that is refused


class MaskFile(NamedTuple):
    """A mask as read.

    Attributes:
        pixels: [H, W] uint8 in {0, 1}, 1 is foreground.
        top: what stood for foreground in the file: 1, or 255 (also for the 65535 of 16 bits), or 0
            if there is none.
    """

    pixels: np.ndarray
    top: int


def is_image_name(path: Path) -> bool:
    """Returns whether a name ends as images do and is not hidden; looks at no file."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def list_images(directory: Path) -> list[Path]:
    """Returns whatever in a directory has the name of an image, by name.

    Raises:
        UserError: the directory cannot be listed.
    """
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise headers.bad(directory, f"cannot be listed ({error.strerror})") from error
    return [directory / name for name in names if is_image_name(Path(name))]


def read_size(path: Path, limits: Limits = _NONE) -> tuple[int, int]:
    """Returns (height, width) of an image as `read_image` would, from the header alone.

    Raises:
        UserError: the header cannot be read.
    """
    return headers.size(path, limits)


def read_image(path: Path, limits: Limits = _NONE) -> np.ndarray:
    """Reads an image, turned as its EXIF orientation says.

    Returns:
        [H, W, 3] uint8, RGB. 16 bits are divided by 257 and rounded; CMYK becomes RGB without
        colour management.

    Raises:
        UserError: the file cannot be shown as RGB without a loss beyond that, or is beyond the
            limits.
    """
    image, deep, _ = decoding.decode(path, limits)
    _check_opaque(path, image, deep)
    if deep is not None:
        image = _of_8_bits(deep, image.mode)
    elif image.mode == "F":
        image = Image.fromarray(_scaled(path, np.asarray(image), limits.float_range))
    if image.mode not in _COLOURS:
        raise headers.bad(
            path,
            f"holds {_kind(image.mode)}; allowed are grey, RGB, CMYK and palettes, of 8 or 16 bits "
            "a channel without sign",
        )
    if image.has_transparency_data:  # of which Pillow warns, though all is opaque
        image = image.convert("RGBA")
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    del image  # a large one should not be there twice
    return pixels.copy()


def read_mask(path: Path, limits: Limits = _NONE) -> MaskFile:
    """Reads a mask, turned as its EXIF orientation says.

    Its values are 0 and 1, 0 and 255, or 0 and 65535. Of a palette the indices count, not the
    colours; colour channels must be equal to each other.

    Raises:
        UserError: there are other values, or the file cannot be read exactly.
    """
    image, deep, lossy = decoding.decode(path, limits)
    if image.mode != "P":
        _check_opaque(path, image, deep)
    if image.mode == "CMYK" or (deep is None and image.mode not in _MASKS):
        raise headers.bad(
            path, f"holds {_kind(image.mode)}; a mask holds 0 and 1, or 0 and 255, in one channel"
        )
    if tiff_tags.white_is_zero(image) and image.info.get("compression") not in _FAX:
        raise headers.bad(path, "is a TIFF with 0 for white; in a mask allowed is 0 for black")
    advice = ": JPEG is lossy, so keep masks as PNG" if lossy else ""
    values = np.asarray(image) if deep is None else deep
    if values.ndim == 3:
        colours = values[..., : values.shape[2] - 1 + values.shape[2] % 2]  # without alpha
        if not (colours == colours[..., :1]).all():
            raise headers.bad(
                path, f"is coloured; a mask is grey, or its palette's indices count{advice}"
            )
        values = colours[..., 0]
    top = int(values.max())
    if top not in (0, 1, 255, 65535) or not ((values == 0) | (values == top)).all():
        raise headers.bad(path, _other_values(values, image.mode) + advice)
    return MaskFile((values != 0).astype(np.uint8), min(top, 255))


def _check_opaque(path: Path, image: Image.Image, deep: np.ndarray | None) -> None:
    if not image.has_transparency_data:
        return
    if image.mode != "P" and "transparency" in image.info:
        problem = f"makes the colour {image.info['transparency']} transparent"
    else:
        alpha = np.asarray(image.convert("RGBA"))[..., 3] if deep is None else deep[..., -1]
        count = np.count_nonzero(alpha < (255 if deep is None else 65535))
        if count == 0:
            return
        problem = f"{count} of {alpha.size} pixels are transparent"
    raise headers.bad(path, f"{problem}; allowed is full opacity: put it on a background first")


def _of_8_bits(deep: np.ndarray, mode: str) -> Image.Image:
    eight = _TO_8_BITS[deep]
    if mode == "CMYK":
        return Image.frombytes(mode, eight.shape[1::-1], eight.tobytes())
    return Image.fromarray(eight)


def _scaled(path: Path, values: np.ndarray, low_high: tuple[float, ...]) -> np.ndarray:
    """Returns floats as uint8, where the lowest allowed becomes 0 and the highest 255."""
    if count := np.count_nonzero(~np.isfinite(values)):
        raise headers.bad(path, f"{count} of {values.size} pixels are NaN or infinite; none may be")
    found = f"holds floats from {values.min():g} to {values.max():g}"
    if not low_high:
        raise headers.bad(path, f"{found}; config.reading.float_range=(low, high) would allow it")
    low, high = low_high
    if values.min() < low or values.max() > high:
        raise headers.bad(path, f"{found}; config.reading.float_range allows {low:g} to {high:g}")
    return np.rint((values.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def _other_values(values: np.ndarray, mode: str) -> str:
    found = [str(value) for value in np.unique(values)]
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    kind = "palette indices" if mode == "P" else "values"
    listed = ", ".join(found[:_LISTED])
    return f"mask holds the {kind} {listed}{more}; allowed are 0 and 1, or 0 and 255"


def _kind(mode: str) -> str:
    return _KINDS.get(mode, f"pixels of mode {mode}")
