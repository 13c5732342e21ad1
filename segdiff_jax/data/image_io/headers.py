"""Opens an image file by its first bytes, and holds what its decoders share: limits and pixels.

The suffix of a file decides nothing.
"""

import contextlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from segdiff_jax.errors import bad_data

ALLOWED = "allowed are whole PNG, JPEG, TIFF, BMP, GIF, WebP and NPY files"
_FORMATS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\x93NUMPY": "NPY",
}
# Axes to flip by EXIF orientation, after rows and columns changed places for 5 to 8.
_FLIPS = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}


class RefusedError(Exception):
    """Refuses a file for a reason; `open_image` adds its path."""


class Limits(NamedTuple):
    """What may be read, and how: `config.reading`."""

    max_pixels: int = 64_000_000  # a larger image is refused before any of it is decoded
    page: int = -1  # of a TIFF file with several, from 0; -1: such a file is refused
    float_range: tuple[float, ...] = ()  # become 0 and 255; (): floats are read by `value_range`
    value_range: str = "auto"  # of more than 8 bits a channel, see `value_range`
    channels: tuple[int, ...] = ()  # that become R, G and B, or grey, from 0; (): all there are


def limits_of(reading: Mapping[str, Any], chosen: Mapping[str, Any]) -> Limits:
    """Returns the limits of a run's `config.reading`, with those of a command line in their place.

    Args:
        reading: the fields of the config.
        chosen: values of flags by name; those that are no limits are left out.
    """
    fields = {name: reading[name] for name in Limits._fields}
    return Limits(**(fields | {name: value for name, value in chosen.items() if name in fields}))


class Pixels(NamedTuple):
    """The decoded values of a file, turned as its EXIF orientation requires.

    Attributes:
        values: [H, W] grey values or palette indices, or [H, W, C] colours; exact. Of 1 bit: bool;
            of fewer than 8 bits: grey values are scaled to 0..255, indices are not; else the
            file's dtype in the byte order of the machine.
        mode: "grey", "RGB", "CMYK" or "palette".
        alpha: [H, W], of the dtype of `values`; None if the file has none.
        palette: [n, 4] uint8, RGBA by index; None for other modes.
        transparent: the colour that the file declares transparent; None if there is none.
        lossy: whether the compression is lossy (JPEG, or WebP of that kind).
        inverted: whether the file stores white as 0; `values` of up to 8 bits have 0 for black all
            the same, those of more are as stored.
        declared: the values of black and white by the file's metadata; None if it has none.
        nodata: the value of pixels without data by the file's metadata; None if it has none.
    """

    values: np.ndarray
    mode: str
    alpha: np.ndarray | None = None
    palette: np.ndarray | None = None
    transparent: int | tuple[int, ...] | None = None
    lossy: bool = False
    inverted: bool = False
    declared: tuple[float, float] | None = None
    nodata: float | None = None


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Opens a file; yields it with its format, such as "PNG".

    Raises:
        UserError: it is no regular file, cannot be opened or has another format; or the body of the
            `with` raised any exception.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
            raise bad_data(path, f"is not a file; {ALLOWED}")
        file = path.open("rb")
    except OSError as error:
        raise bad_data(path, f"cannot be opened ({error.strerror})") from error
    with file:
        format = ""
        try:
            format = _format(file.read(12))
            yield file, format
        except RefusedError as error:
            raise bad_data(path, str(error)) from error
        except Exception as error:  # libraries raise nearly anything on a damaged file
            reason = " ".join(str(error).split()) or type(error).__name__
            what = f"is a {format} file that cannot be decoded ({reason[:200]}): damaged, or of"
            raise bad_data(path, f"{what} a kind that is not read") from error


def _format(begin: bytes) -> str:
    for magic, name in _FORMATS.items():
        if begin.startswith(magic):
            return name
    if begin.startswith(b"RIFF") and begin[8:12] == b"WEBP":
        return "WebP"
    content = f"begins with {begin[:8]!r}" if begin else "is empty (0 bytes)"
    raise RefusedError(f"{content}; {ALLOWED}")


def check_size(shape: tuple[int, int], limits: Limits, where: str = "") -> None:
    """Refuses an image, or a tile of it, of a `shape` (H, W) that is too large to decode."""
    height, width = shape
    if height * width > limits.max_pixels:
        raise RefusedError(
            f"has {height} x {width} pixels{where}; at most config.reading.max_pixels="
            f"{limits.max_pixels} are decoded: raise that if the file is to be trusted"
        )


def check_channels(channels: Sequence[int], count: int) -> None:
    """Refuses `config.reading.channels` that a file of `count` channels does not have."""
    if max(channels) >= count:
        chosen = ",".join(map(str, channels))
        found = f"has {count} channel{'s' if count > 1 else ''}, numbered from 0"
        raise RefusedError(f"{found}; config.reading.channels={chosen} are not all there")


def selected(values: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    """Returns [H, W] of one channel of [H, W, C] or [H, W], or [H, W, 3] of three."""
    bands = values if values.ndim == 3 else values[..., None]
    check_channels(channels, bands.shape[-1])
    return bands[..., channels[0]] if len(channels) == 1 else bands[..., list(channels)]


def upright_shape(shape: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Returns (H, W) after the EXIF orientation is applied."""
    return (shape[1], shape[0]) if 5 <= orientation <= 8 else shape


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Returns a view [H, W, ...] with the EXIF orientation applied; unknown ones change nothing."""
    if 5 <= orientation <= 8:
        values = values.swapaxes(0, 1)
    return np.flip(values, _FLIPS.get(orientation, ()))
