"""Decodes PNG and JPEG files strictly, through Pillow.

Pillow by itself neither checks the checksums of a PNG nor refuses damaged metadata, and keeps only
the upper byte of 16-bit colour, which imagecodecs (libpng) decodes instead. Damage inside the
pixels of a JPEG cannot be seen: they have no checksum.
"""

import contextlib
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import PIL
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from segdiff_jax.data.image_io import headers
from segdiff_jax.errors import UserError, bad_data

Header = PngImageFile | JpegImageFile

_MODES = {"P": "palette", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}  # all others are grey
_lock = threading.Lock()


def read_size(path: Path, file: BinaryIO, limits: headers.Limits) -> tuple[int, int]:
    """Returns (height, width) after the EXIF orientation, from the header alone.

    Raises:
        UserError: the header cannot be read.
    """
    with _strict(path):
        image = _header(path, file)
        shape = image.height, image.width
        if isinstance(image, PngImageFile) and _ends_with_metadata(file):
            headers.check_size(path, shape, limits)
            image.load()
        return headers.upright_shape(shape, _orientation(image))


def decode(path: Path, file: BinaryIO, limits: headers.Limits) -> headers.Pixels:
    """Decodes a PNG or JPEG file.

    Raises:
        UserError: it cannot be decoded exactly, or is beyond the limits.
    """
    with _strict(path):
        image = _header(path, file)
        headers.check_size(path, (image.height, image.width), limits)
        if isinstance(image, PngImageFile):
            image.verify()  # that no chunk is damaged or missing; the object is unusable after it
            image = _header(path, file)
        layout: Any = image.tile[0][3]
        image.load()
        values = np.asarray(image)
        if isinstance(layout, str) and re.fullmatch("(LA|RGBA?);16B", layout):
            file.seek(0)
            values = imagecodecs.png_decode(file.read())
        elif image.mode.startswith("I"):  # 16-bit grey; mode I in Pillow before 11
            values = values.astype(np.uint16)
        palette = _palette(path, image) if image.mode == "P" else None
        orientation = _orientation(image)
    alpha = None
    if image.mode in ("LA", "RGBA"):
        values, alpha = values[..., :-1], headers.upright(values[..., -1], orientation)
        values = values[..., 0] if image.mode == "LA" else values
    return headers.Pixels(
        headers.upright(values, orientation),
        _MODES.get(image.mode, "grey"),
        alpha,
        palette,
        None if image.mode == "P" else image.info.get("transparency"),
        isinstance(image, JpegImageFile),
    )


def read_resolution(path: Path, file: BinaryIO) -> tuple[tuple[float, float] | None, int]:
    """Returns (horizontal, vertical) pixels per inch, None without; and the EXIF orientation."""
    with _strict(path):
        image = _header(path, file)
        return image.info.get("dpi"), _orientation(image)


@contextlib.contextmanager
def _strict(path: Path) -> Iterator[None]:
    """Turns Pillow's exceptions and warnings into UserErrors; warnings are state of the process."""
    with _lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # Pillow raises nearly anything on a damaged file
            raise headers.undecodable(path, error) from error
    for warning in caught:
        if Path(PIL.__file__).parent not in Path(warning.filename).parents:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif "Metadata Warning" not in str(warning.message):  # an EXIF tag with too many values
            reason = " ".join(str(warning.message).split())
            raise bad_data(path, f"has damaged metadata ({reason}); save it again without them")


def _header(path: Path, file: BinaryIO) -> Header:
    """Returns the image with nothing decoded."""
    file.seek(0)
    plugin = PngImageFile if file.read(1) == b"\x89" else JpegImageFile
    file.seek(0)
    image = plugin(file)
    if getattr(image, "n_frames", 1) > 1:
        raise bad_data(path, "is an animation; allowed is a single image")
    return image


def _orientation(image: Header) -> int:
    # Not PngImageFile.getexif, which decodes the image to find metadata behind its pixels.
    return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)


def _palette(path: Path, image: Header) -> np.ndarray:
    """Returns [n, 4] uint8, RGBA by index."""
    image.apply_transparency()
    colours = image.getpalette("RGBA")
    if not colours:
        raise bad_data(path, "has palette indices and no palette; save it again with one")
    return np.array(colours, np.uint8).reshape(-1, 4)


def _ends_with_metadata(file: BinaryIO) -> bool:
    """Returns whether a PNG may have its orientation behind its pixels."""
    file.seek(8)
    pixels = False
    while len(begin := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", begin)
        text = file.read(min(length, 17))
        about = text.startswith((b"Raw profile type", b"XML:com.adobe.xmp"))
        if pixels and (kind == b"eXIf" or about):
            return True
        pixels |= kind == b"IDAT"
        file.seek(length - len(text) + 4, 1)
    return False
