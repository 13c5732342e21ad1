"""Decodes .npy files of NumPy: one array of plain numbers, whose header is checked before its data.

NumPy's own loader runs pickles if it is told to, parses a header of any length and allocates
whatever a header claims. Here a header is short, and claims no more than the file holds.
"""

import io
import math
import os
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from segdiff_jax.data.image_io import headers
from segdiff_jax.data.image_io.headers import RefusedError

MAX_HEADER = 1024  # bytes; one of a plain array has 128
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}  # of the length of a header, by version of the format
_SIZES = {"b": (1,), "u": (1, 2, 4, 8), "i": (1, 2, 4, 8), "f": (2, 4, 8)}  # bytes, by kind
MAX_CHANNELS = 2**16  # of which some are chosen
_BLOCK = 2**22  # bytes that are read at a time where channels are chosen


class _Header(NamedTuple):
    """What a file says of its array.

    Attributes:
        shape: (H, W, C).
        dtype: of its values, in the byte order of the file.
        fortran: whether the first axis, and not the last, is the fastest.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    fortran: bool


def read_size(file: BinaryIO, limits: headers.Limits) -> tuple[int, int]:
    """Returns (height, width), from the header alone."""
    del limits  # of readers of other formats
    return _header(file).shape[:2]


def count_channels(file: BinaryIO, limits: headers.Limits) -> int:
    """Returns C of an array [H, W, C], 1 of [H, W]."""
    del limits
    return _header(file).shape[2]


def decode(file: BinaryIO, limits: headers.Limits) -> headers.Pixels:
    """Decodes a file: [H, W] or [H, W, 1] grey values, [H, W, 3] RGB, or chosen channels."""
    header = _header(file)
    height, width, count = header.shape
    headers.check_size((height, width), limits)
    chosen = limits.channels or tuple(range(count))
    headers.check_channels(chosen, count)
    if not limits.channels and count not in (1, 3):
        hint = "; channels come last" if height in (1, 3) else ""
        raise RefusedError(
            f"holds an array of the shape {header.shape}{hint}; allowed are [H, W], [H, W, 1] and "
            "[H, W, 3], or a choice by config.reading.channels or config.data.channels"
        )
    planes = _planes if header.fortran else _interleaved
    values = _native(planes(file, header, chosen))
    return headers.Pixels(
        values[..., 0] if len(chosen) == 1 else values, "grey" if len(chosen) == 1 else "RGB"
    )


def _header(file: BinaryIO) -> _Header:
    """Reads the header, and leaves the file where its data begin."""
    file.seek(0)
    try:
        version = npy.read_magic(file)
        if version not in _LENGTH_BYTES:
            raise RefusedError(f"is of version {version} of the format; allowed are 1.0 and 2.0")
        length = int.from_bytes(file.read(_LENGTH_BYTES[version]), "little")
        if length > MAX_HEADER:
            raise RefusedError(f"has a header of {length} bytes; allowed are {MAX_HEADER}")
        file.seek(8)
        content = io.BytesIO(file.read(_LENGTH_BYTES[version] + length))
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(content, max_header_size=MAX_HEADER)
    except RefusedError:
        raise
    except Exception as error:  # what a parser of Python raises of any text
        raise RefusedError("is an .npy file with a damaged header; save it again") from error
    if dtype.itemsize not in _SIZES.get(dtype.kind, ()) or dtype.fields or dtype.subdtype:
        what = "Python objects" if dtype.hasobject else f"{str(dtype)[:40]} values"
        raise RefusedError(f"holds {what}; allowed are integers, floats and truth values")
    return _checked(file, shape, dtype, fortran)


def _checked(file: BinaryIO, shape: Any, dtype: np.dtype, fortran: bool) -> _Header:
    """Returns a header whose array is an image, and exactly what the file holds."""
    if len(shape) not in (2, 3) or min(shape) < 1 or any(isinstance(n, bool) for n in shape):
        raise RefusedError(
            f"holds an array of the shape {str(shape)[:60]}; allowed are [H, W] and [H, W, C]"
        )
    wanted = math.prod(shape) * dtype.itemsize
    held = os.fstat(file.fileno()).st_size - file.tell()
    if held != wanted:
        which = "is truncated" if held < wanted else "holds more than one array"
        raise RefusedError(f"{which}: {held} bytes of an array of {wanted}; allowed are whole ones")
    height, width, count = (*shape, 1)[:3]
    if count > MAX_CHANNELS:
        raise RefusedError(f"has {count} channels; allowed are {MAX_CHANNELS}; channels come last")
    return _Header((height, width, count), dtype, bool(fortran))


def _interleaved(file: BinaryIO, header: _Header, chosen: tuple[int, ...]) -> np.ndarray:
    """Reads channels of an array whose last axis is the fastest, some pixels at a time."""
    height, width, count = header.shape
    values = np.empty((height * width, len(chosen)), header.dtype)
    if chosen == tuple(range(count)):
        _fill(file, values)
        return values.reshape(height, width, count)
    step = max(1, _BLOCK // (count * header.dtype.itemsize))
    for first in range(0, len(values), step):
        part = values[first : first + step]
        pixels = np.empty((len(part), count), header.dtype)
        _fill(file, pixels)
        part[:] = pixels[:, list(chosen)]
    return values.reshape(height, width, len(chosen))


def _planes(file: BinaryIO, header: _Header, chosen: tuple[int, ...]) -> np.ndarray:
    """Reads channels of an array whose first axis is the fastest: they lie one after another."""
    height, width, _ = header.shape
    values = np.empty((len(chosen), width, height), header.dtype)
    start = file.tell()
    for plane, channel in zip(values, chosen, strict=True):
        file.seek(start + channel * plane.nbytes)
        _fill(file, plane)
    return values.transpose(2, 1, 0)


def _fill(file: BinaryIO, values: np.ndarray) -> None:
    """Reads the bytes of a contiguous array."""
    view = memoryview(values.reshape(-1).view(np.uint8))
    while len(view):
        if not (count := file.readinto(view)):  # type: ignore[attr-defined]
            raise RefusedError("is truncated: it became shorter while it was read")
        view = view[count:]


def _native(values: np.ndarray) -> np.ndarray:
    """Returns values in the byte order of the machine, of types that all readers know."""
    dtype = values.dtype.newbyteorder("=")
    if dtype == np.float16:
        return values.astype(np.float32)
    if dtype.kind == "b":
        return values.view(np.uint8) != 0  # other bytes than 0 and 1 are no truth values
    if dtype == np.uint64:
        if values.max() > np.iinfo(np.int64).max:
            raise RefusedError(f"holds integers up to {values.max()}; allowed is less than 2**63")
        dtype = np.dtype(np.int64)
    return values.astype(dtype, copy=False)
