"""Opening an image file strictly: only PNG, JPEG and TIFF, and only what Pillow reads as meant.

A file's first bytes decide which of the three it is, never its suffix. Nothing is decoded here.
"""

import contextlib
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import PIL
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from segdiff_jax import errors
from segdiff_jax.data.image_io import tiff_tags

_PLUGINS = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,  # BigTIFF
    b"MM\0+": TiffImageFile,
}


Header = PngImageFile | JpegImageFile | TiffImageFile


_ALLOWED = "allowed are whole PNG, JPEG and TIFF files of 8 or 16 bits a channel"


_pillow = threading.Lock()


class Limits(NamedTuple):
    """What may be read: `config.reading`.

    Attributes:
        max_pixels: an image of more is refused before any of it is decoded.
        page: of a TIFF that has several, from 0; -1: such a file is refused.
        float_range: (low, high), which become 0 and 255; (): an image of floats is refused.
    """

    max_pixels: int = 64_000_000
    page: int = -1
    float_range: tuple[float, ...] = ()


def bad(path: Path, what: str) -> errors.UserError:
    """Returns the error of a file: what is wrong with it; what is allowed."""
    return errors.UserError(f"{path}: {what}", errors.BAD_DATA)


def size(path: Path, limits: Limits) -> tuple[int, int]:
    """Returns (height, width) the right way up, from the header alone.

    Raises:
        UserError: the header cannot be read.
    """
    with opened(path) as file:
        image = header(path, file, limits)
        if isinstance(image, PngImageFile) and _ends_with_metadata(file):
            check_size(path, image, limits)
            image.load()
        if isinstance(image, TiffImageFile):  # of which newer Pillows turn the size themselves
            width, height = tiff_tags.stored_size(image)
        else:
            width, height = image.size
        # Not PngImageFile's, which decodes the image to find what may stand behind it.
        turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return (width, height) if turned else (height, width)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for Pillow; whatever Pillow raises or warns of inside becomes a UserError."""
    with _alone(path), _plain_file(path) as file:
        yield file


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Runs Pillow for one thread at a time, and makes its errors and warnings errors of the file.

    Warnings and Pillow's limit of pixels belong to the whole process. `check_size` stands in for
    that limit, which could not be raised by a config.
    """
    with _pillow, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        except errors.UserError:
            raise
        except Exception as error:  # Pillow raises nearly anything on a damaged file
            reason = " ".join(str(error).split()) or type(error).__name__
            raise bad(path, f"cannot be decoded ({reason}); {_ALLOWED}") from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    for warning in told:
        if Path(PIL.__file__).parent not in Path(warning.filename).parents:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif "Metadata Warning" not in str(warning.message):  # a tag with a value too many
            reason = " ".join(str(warning.message).split())
            raise bad(path, f"has damaged metadata ({reason}); save it anew without them")


@contextlib.contextmanager
def _plain_file(path: Path) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise bad(path, f"is not a file; {_ALLOWED}")
        file = path.open("rb")
    except OSError as error:
        raise bad(path, f"cannot be opened ({error.strerror})") from error
    with file:
        yield file


def header(path: Path, file: BinaryIO, limits: Limits) -> Header:
    """Returns the image with nothing decoded, at the page that is wanted."""
    file.seek(0)
    begin = file.read(8)
    plugin = next((p for magic, p in _PLUGINS.items() if begin.startswith(magic)), None)
    if plugin is None:
        content = f"begins with {begin!r}" if begin else "is empty (0 bytes)"
        raise bad(path, f"{content}; {_ALLOWED}")
    file.seek(0)
    image = plugin(file)
    if isinstance(image, TiffImageFile):
        if image.n_frames > 1 and limits.page < 0:
            raise bad(path, f"has {image.n_frames} pages; config.reading.page chooses one, from 0")
        if limits.page >= image.n_frames:
            raise bad(
                path,
                f"has {image.n_frames} page(s), so config.reading.page={limits.page} is not "
                f"there; at most {image.n_frames - 1}",
            )
        image.seek(max(limits.page, 0))
        if problem := tiff_tags.problem(image):
            raise bad(path, f"{problem}: save it anew, as PNG")
    elif getattr(image, "n_frames", 1) > 1:
        raise bad(path, "is an animation; allowed is a single image")
    return image


def check_size(path: Path, image: Header, limits: Limits) -> None:
    """Raises UserError if the image is too large to be decoded."""
    sizes = {"": image.size}
    if isinstance(image, TiffImageFile):
        sizes[" in a tile"] = tiff_tags.tile_size(image)
    for where, (width, height) in sizes.items():
        if width * height > limits.max_pixels:
            raise bad(
                path,
                f"has {height} x {width} pixels{where}; at most config.reading.max_pixels="
                f"{limits.max_pixels} are decoded: raise that if the file is to be trusted",
            )


def _ends_with_metadata(file: BinaryIO) -> bool:
    """Returns whether a PNG's orientation may stand behind its pixels."""
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
