"""Decodes PNG and JPEG files strictly, through Pillow.

Pillow by itself neither checks the checksums of a PNG nor refuses damaged metadata, and keeps only
the upper byte of 16-bit colour, which imagecodecs (libpng) decodes instead. Damage inside the
pixels of a JPEG cannot be seen: they have no checksum.
"""

import contextlib
import mmap
import re
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

Header = PngImageFile | JpegImageFile

_MODES = {"P": "palette", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}  # all others are grey
_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # may hold an orientation
_lock = threading.Lock()


def read_size(file: BinaryIO, limits: headers.Limits) -> tuple[int, int]:
    """Returns (height, width) after the EXIF orientation, from the header alone."""
    with _strict():
        image = _header(file)
        shape = image.height, image.width
        if isinstance(image, PngImageFile) and _ends_with_metadata(file):
            headers.check_size(shape, limits)
            image.load()
        return headers.upright_shape(shape, _orientation(image))


def decode(file: BinaryIO, limits: headers.Limits) -> headers.Pixels:
    """Decodes a PNG or JPEG file."""
    with _strict():
        image = _header(file)
        headers.check_size((image.height, image.width), limits)
        if isinstance(image, PngImageFile):
            image.verify()  # that no chunk is damaged or missing; the object is unusable after it
            image = _header(file)
        layout: Any = image.tile[0][3]
        image.load()
        values = np.asarray(image)
        if isinstance(layout, str) and re.fullmatch("(LA|RGBA?);16B", layout):
            file.seek(0)
            values = imagecodecs.png_decode(file.read())
        elif image.mode.startswith("I"):  # 16-bit grey; mode I in Pillow before 11
            values = values.astype(np.uint16)
        palette = _palette(image) if image.mode == "P" else None
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


def read_resolution(file: BinaryIO) -> tuple[tuple[float, float] | None, int]:
    """Returns (horizontal, vertical) pixels per inch, None without; and the EXIF orientation."""
    with _strict():
        image = _header(file)
        return image.info.get("dpi"), _orientation(image)


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Refuses a file of which Pillow warns; locked, since warnings are state of the process."""
    with _lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if Path(PIL.__file__).parent not in Path(warning.filename).parents:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif "Metadata Warning" not in str(warning.message):  # an EXIF tag with too many values
            reason = " ".join(str(warning.message).split())
            raise headers.RefusedError(
                f"has damaged metadata ({reason}); save it again without them"
            )


def _header(file: BinaryIO) -> Header:
    """Returns the image with nothing decoded."""
    file.seek(0)
    plugin = PngImageFile if file.read(1) == b"\x89" else JpegImageFile
    file.seek(0)
    image = plugin(file)
    if getattr(image, "n_frames", 1) > 1:
        raise headers.RefusedError("is an animation; allowed is a single image")
    return image


def _orientation(image: Header) -> int:
    # Not PngImageFile.getexif, which decodes the image to find metadata behind its pixels.
    return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)


def _palette(image: Header) -> np.ndarray:
    """Returns [n, 4] uint8, RGBA by index."""
    image.apply_transparency()
    colours = image.getpalette("RGBA")
    if not colours:
        raise headers.RefusedError("has palette indices and no palette; save it again with one")
    return np.array(colours, np.uint8).reshape(-1, 4)


def _ends_with_metadata(file: BinaryIO) -> bool:
    """Returns whether a PNG may have its orientation behind its pixels."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pixels = content.find(b"IDAT")
        return any(content.find(name, pixels) >= 0 for name in _METADATA)
