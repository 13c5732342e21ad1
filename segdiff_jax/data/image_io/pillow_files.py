"""Decodes PNG, JPEG, BMP, GIF and WebP files strictly, through Pillow.

Pillow by itself neither checks the checksums of a PNG nor refuses damaged metadata, and keeps only
the upper byte of 16-bit colour, which imagecodecs (libpng) decodes instead. The plugins are called
directly: `Image.open` has a limit of pixels of its own. Damage inside the pixels of the other
formats cannot be seen in general: they have no checksum.
"""

import contextlib
import io
import mmap
import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import PIL
from PIL import ExifTags, Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from segdiff_jax.data.image_io import headers

_PLUGINS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89": PngImageFile,
    b"\xff": JpegImageFile,
    b"B": BmpImageFile,
    b"G": GifImageFile,
    b"R": WebPImageFile,
}
_MODES = {"P": "palette", "PA": "palette", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}  # else grey
_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # may hold an orientation
_GIF_END = b";"
_LOSSY_WEBP = b"VP8 "  # the name of a chunk
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
    """Decodes a file of one of the formats."""
    with _strict():
        image = _header(file)
        headers.check_size((image.height, image.width), limits)
        lossy = isinstance(image, JpegImageFile)
        if isinstance(image, PngImageFile):
            image.verify()  # that no chunk is damaged or missing; the object is unusable after it
            image = _header(file)
        elif isinstance(image, WebPImageFile):
            lossy = _is_lossy_webp(file)
        layout: Any = image.tile[0][3] if image.tile else None
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
    if limits.channels and palette is None:
        values, alpha = headers.selected(values, limits.channels), None
    mode = _MODES.get(image.mode, "grey")
    return headers.Pixels(
        headers.upright(values, orientation),
        ("grey" if values.ndim == 2 else "RGB") if limits.channels and palette is None else mode,
        alpha,
        palette,
        None if image.mode == "P" else image.info.get("transparency"),
        lossy,
    )


def decode_stored(content: bytes) -> np.ndarray:
    """Returns the values of a PNG of a prepared set, of any number of pixels; checks nothing."""
    return np.array(PngImageFile(io.BytesIO(content)))


def encode_stored(values: np.ndarray) -> bytes:
    """Returns the PNG of [H, W] uint8 or uint16, for a prepared set."""
    return bytes(imagecodecs.png_encode(values))


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


def _header(file: BinaryIO) -> ImageFile.ImageFile:
    """Returns the image with nothing decoded."""
    file.seek(0)
    begin = file.read(8)
    plugin, size = _PLUGINS[begin[:1]], int.from_bytes(begin[4:], "little") + 8
    if plugin is WebPImageFile and size > os.fstat(file.fileno()).st_size:
        raise headers.RefusedError("is a truncated WebP file; allowed are whole files")
    file.seek(0)
    image = plugin(file)
    if getattr(image, "n_frames", 1) > 1:
        raise headers.RefusedError("is an animation; allowed is a single image")
    if min(image.size) < 1:
        raise headers.RefusedError(f"has {image.height} x {image.width} pixels; none is no image")
    if isinstance(image, GifImageFile):
        _check_gif(image, file)
    return image


def _check_gif(image: GifImageFile, file: BinaryIO) -> None:
    """Refuses a GIF that lacks its end, or whose one frame covers a part of it."""
    place = file.tell()
    file.seek(-min(64, os.fstat(file.fileno()).st_size), os.SEEK_END)
    if not file.read().rstrip(b"\0").endswith(_GIF_END):
        raise headers.RefusedError("is a truncated GIF file; allowed are whole files")
    file.seek(place)
    if image.tile and tuple(image.tile[0][1] or ()) != (0, 0, *image.size):
        raise headers.RefusedError("is a GIF file whose frame covers a part of it only")


def _is_lossy_webp(file: BinaryIO) -> bool:
    """Returns whether a WebP file holds pixels of the lossy kind, by its chunks."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        if head.startswith(_LOSSY_WEBP):
            return True
        size = int.from_bytes(head[4:], "little")
        file.seek(size + size % 2, os.SEEK_CUR)
    return False


def _orientation(image: ImageFile.ImageFile) -> int:
    # Not PngImageFile.getexif, which decodes the image to find metadata behind its pixels.
    return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)


def _palette(image: ImageFile.ImageFile) -> np.ndarray:
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
