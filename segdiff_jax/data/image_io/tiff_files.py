"""Decodes TIFF files strictly, through tifffile and imagecodecs.

tifffile by itself logs damage and reads on, follows links between pages without end, and takes the
size of a JPEG tile from the tile. Here such a file is refused. Damage inside uncompressed pixels
cannot be seen: they have no checksum.
"""

import contextlib
import io
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile
from PIL.JpegImagePlugin import JpegImageFile

from segdiff_jax.data.image_io import fax, headers, tiff_pages
from segdiff_jax.data.image_io.headers import RefusedError

# Numbers of the specification (TIFF 6.0 and its supplements).
_ORIENTATION, _COLOR_MAP, _NODATA = 274, 320, 42113
_LEAST_MOST = ((340, 341), (280, 281))  # S{Min,Max}SampleValue, {Min,Max}SampleValue
_T4_OPTIONS, _LOW_BIT_FIRST = 292, 2  # a tag; a value of FillOrder
_NONE, _JPEG = 1, 7
# CCITT: 0 for white is usual, and is shown as it is meant
_FAX = (fax.RLE, fax.GROUP_3, fax.GROUP_4)
# none, CCITT, LZW, JPEG, deflate (two numbers), PackBits, LZMA, Zstandard
_COMPRESSIONS = (_NONE, *_FAX, 5, _JPEG, 8, 32946, 32773, 34925, 50000)
_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_MODES = {0: ("grey", 1), 1: ("grey", 1), 2: ("RGB", 3), 3: ("palette", 1), 5: ("CMYK", 4)}
_ALPHA = (1, 2)  # extra samples: associated, unassociated

_reading = threading.local()


class Layout(NamedTuple):
    """What the channels of an image are: its mode, how many are colours, whether one is alpha."""

    mode: str
    colours: int
    alpha: bool = False


def read_size(file: BinaryIO, limits: headers.Limits) -> tuple[int, int]:
    """Returns (height, width) after the orientation, from the header alone."""
    with open_page(file, limits.page) as page:
        return headers.upright_shape((page.imagelength, page.imagewidth), orientation(page))


@contextlib.contextmanager
def open_page(file: BinaryIO, number: int) -> Iterator[tifffile.TiffPage]:
    """Opens a page of a TIFF file by its number, from 0; -1: the only one."""
    with _quiet():
        tiff = tiff_pages.open_file(file)
        yield tiff_pages.read_page(tiff, tiff_pages.chosen(tiff_pages.stack(tiff), number)[0])


def count_pages(file: BinaryIO) -> int:
    """Returns how many images `tiff_pages.chosen` chooses from."""
    with _quiet():
        return tiff_pages.count(tiff_pages.stack(tiff_pages.open_file(file)))


def count_channels(file: BinaryIO, limits: headers.Limits) -> int:
    """Returns how many channels an image has, over all pages of its plane."""
    with _quiet():
        tiff = tiff_pages.open_file(file)
        places = tiff_pages.chosen(tiff_pages.stack(tiff), limits.page)
        return len(places) * tiff_pages.read_page(tiff, places[0]).samplesperpixel


def decode(file: BinaryIO, limits: headers.Limits) -> headers.Pixels:
    """Decodes an image of a TIFF file: one page, or those of the channels of one plane."""
    with _quiet():
        tiff = tiff_pages.open_file(file)
        images = tiff_pages.stack(tiff)
        pages = [
            tiff_pages.read_page(tiff, place) for place in tiff_pages.chosen(images, limits.page)
        ]
        page = pages[0]
        layout = _layout(pages, limits.channels)
        for each in pages:
            _check(each, page, limits)
        if images.contiguous:
            values = _contiguous(page, max(limits.page, 0))
        else:
            values = _values(pages, limits.channels)
        palette = _palette(page) if layout.mode == "palette" else None
        turn, declared = orientation(page), _declared(page, images.bits)
        nodata = _nodata(page)
    if palette is not None:
        values = values.astype(f"u{values.itemsize}")
    elif page.bitspersample < 8 and values.dtype == np.uint8:
        values = np.rint(values * (255 / (2**page.bitspersample - 1))).astype(np.uint8)
    negative = page.photometric == _WHITE_IS_ZERO and layout.mode == "grey"
    if negative and values.dtype in (bool, np.uint8):
        values[..., : layout.colours] = ~values[..., : layout.colours]
    values = headers.upright(values, turn)
    return headers.Pixels(
        values[..., 0] if layout.colours == 1 else values[..., : layout.colours],
        layout.mode,
        values[..., layout.colours] if layout.alpha else None,
        palette,
        lossy=page.compression == _JPEG,
        inverted=negative and page.compression not in _FAX,
        declared=declared,
        nodata=nodata,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what tifffile says of a damaged file read here out of the log."""
    _reading.here = True
    try:
        yield
    finally:
        _reading.here = False


# Installed once: filters belong to the process, and a filter for each file would race with others.
logging.getLogger("tifffile").addFilter(lambda record: not getattr(_reading, "here", False))


def orientation(page: tifffile.TiffPage) -> int:
    """Returns the EXIF orientation of a page, 1 if it has none."""
    return int(page.tags.valueof(_ORIENTATION, 1))


def _layout(pages: Sequence[tifffile.TiffPage], channels: Sequence[int]) -> Layout:
    """Returns what the channels are, after a choice of them."""
    page = pages[0]
    count, photometric = len(pages) * page.samplesperpixel, page.photometric
    if photometric == _YCBCR and page.compression == _JPEG:
        photometric = _RGB  # tifffile decodes it to RGB
    if photometric not in _MODES:
        colours = _name(tifffile.PHOTOMETRIC, photometric)
        raise RefusedError(f"has the colours {colours}; allowed are grey, RGB, CMYK, palettes")
    mode, colours = _MODES[photometric]
    if channels and mode != "palette":
        headers.check_channels(channels, count)
        return Layout("grey" if len(channels) == 1 else "RGB", len(channels))
    if count == colours:
        return Layout(mode, colours)
    extra = [int(kind) for kind in page.extrasamples]
    has_alpha = bool(extra) and extra[-1] in _ALPHA and len(pages) == 1
    if has_alpha and count == colours + 1:
        return Layout(mode, colours, alpha=True)
    if photometric == _GREY and count - has_alpha == 3:  # three bands that nobody named
        return Layout("RGB", 3, has_alpha)
    kind = f"{page.dtype}, declared as {mode}"
    raise RefusedError(
        f"has {count} channels of {kind}; config.reading.channels chooses those to be read as "
        "R,G,B or as grey, such as 0,1,2 or 0"
    )


def _name(names: type[IntEnum], number: int) -> str:
    return names(number).name if number in [*names] else str(number)


def _check(page: tifffile.TiffPage, first: tifffile.TiffPage, limits: headers.Limits) -> None:
    """Refuses a page that cannot be decoded exactly, or is too large, or unlike the first."""
    if page.compression not in _COMPRESSIONS:
        name = _name(tifffile.COMPRESSION, page.compression)
        raise RefusedError(
            f"has the compression {name}; allowed are none, LZW, deflate, PackBits, CCITT fax, "
            "JPEG, LZMA and Zstandard"
        )
    if not isinstance(page.bitspersample, int) or page.dtype is None:
        raise RefusedError(
            f"has {page.bitspersample} bits a channel of the sample format "
            f"{_name(tifffile.SAMPLEFORMAT, page.sampleformat)}, which is not read"
        )
    if page.dtype.kind == "c":
        raise RefusedError(f"holds complex numbers ({page.dtype}); allowed are integers and floats")
    if page.imagedepth != 1 or min(page.imagelength, page.imagewidth) < 1:
        shape = page.imagedepth, page.imagelength, page.imagewidth
        raise RefusedError(f"has the depth, height and width {shape}; allowed is one plane")
    kinds = [(p.imagelength, p.imagewidth, p.samplesperpixel, p.dtype) for p in (page, first)]
    if kinds[0] != kinds[1]:
        raise RefusedError("has channels of different sizes or types; it is damaged")
    headers.check_size((page.imagelength, page.imagewidth), limits)
    if page.is_tiled:  # a tile is decoded whole
        headers.check_size((page.tilelength, page.tilewidth), limits, " in a tile")
    _check_segments(page)


def _check_segments(page: tifffile.TiffPage) -> None:
    """Refuses a file that lacks strips or tiles, or has JPEG ones that are larger than declared."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    size = page.parent.filehandle.size
    whole = all(offset and count and offset + count <= size for offset, count in segments)
    if len(segments) < math.prod(page.chunked) or not whole:
        raise RefusedError("is truncated: it lacks a part of its pixels; allowed are whole images")
    if page.compression in _FAX:
        _check_fax(page, segments)
    if page.compression != _JPEG:
        return
    height, width = page.rowsperstrip, page.imagewidth
    if page.is_tiled:
        height, width = page.tilelength, page.tilewidth
    for offset, count in segments:
        page.parent.filehandle.seek(offset)
        jpeg = JpegImageFile(io.BytesIO(page.parent.filehandle.read(count)))
        if jpeg.width > width or jpeg.height > height:
            found = f"has a JPEG part of {jpeg.height} x {jpeg.width} pixels"
            raise RefusedError(f"{found}, larger than its place of {height} x {width}; damaged")


def _check_fax(page: tifffile.TiffPage, segments: Sequence[tuple[int, int]]) -> None:
    """Refuses fax data that have several channels, or that a decoder would repair."""
    if page.bitspersample != 1 or (page.samplesperpixel > 1 and page.planarconfig == 1):
        raise RefusedError("has CCITT fax data of more than 1 bit a pixel; it is damaged")
    strips = -(-page.imagelength // page.rowsperstrip) if not page.is_tiled else 1
    for number, (offset, count) in enumerate(segments[: math.prod(page.chunked)]):
        if page.is_tiled:
            shape = page.tilelength, page.tilewidth
        else:
            left = page.imagelength - number % strips * page.rowsperstrip
            shape = min(page.rowsperstrip, left), page.imagewidth
        page.parent.filehandle.seek(offset)
        data = page.parent.filehandle.read(count)
        options = int(page.tags.valueof(_T4_OPTIONS, 0))
        fax.check(data, shape, page.compression, options, page.fillorder == _LOW_BIT_FIRST)


def _values(pages: Sequence[tifffile.TiffPage], channels: Sequence[int]) -> np.ndarray:
    """Returns [H, W, C], of the chosen channels if there is a choice."""
    samples = pages[0].samplesperpixel
    if not channels or pages[0].photometric == _PALETTE:
        return np.concatenate([_of_page(page) for page in pages], axis=-1)
    read = {n: _of_page(pages[n]) for n in {channel // samples for channel in channels}}
    return np.stack([read[c // samples][..., c % samples] for c in channels], axis=-1)


def _of_page(page: tifffile.TiffPage) -> np.ndarray:
    values = page.asarray(squeeze=False)[:, 0]  # [planes, H, W, samples of a plane]
    return np.moveaxis(values, 0, -1).reshape(*values.shape[1:3], -1)


def _contiguous(page: tifffile.TiffPage, number: int) -> np.ndarray:
    """Returns a plane [H, W, C] of an ImageJ stack whose planes lie behind one another."""
    shape = page.imagelength, page.imagewidth, page.samplesperpixel
    handle, dtype = page.parent.filehandle, np.dtype(page.dtype)
    size = math.prod(shape) * dtype.itemsize
    start = page.dataoffsets[0] + number * size
    if page.compression != _NONE or page.planarconfig != 1 or page.bitspersample % 8:
        raise RefusedError("is a compressed ImageJ stack with one page for all planes")
    if start + size > handle.size:
        raise RefusedError("is truncated: it lacks a part of its planes; allowed are whole files")
    handle.seek(start)
    stored = np.frombuffer(handle.read(size), dtype.newbyteorder(page.parent.byteorder))
    return stored.astype(dtype).reshape(shape)


def _declared(page: tifffile.TiffPage, bits: int) -> tuple[float, float] | None:
    """Returns the values of black and white that the file declares, None if it declares none."""
    dtype: Any = page.dtype
    for least, most in _LEAST_MOST:
        if (top := page.tags.valueof(most)) is not None:
            low = np.min(page.tags.valueof(least, 0))
            return (float(low), float(np.max(top))) if low < np.max(top) else None
    if not bits and 8 < page.bitspersample < 8 * dtype.itemsize:
        bits = page.bitspersample
    if not 0 < bits < 8 * dtype.itemsize or dtype.kind == "f":
        return None
    half = 2.0 ** (bits - 1)
    return (-half, half - 1) if dtype.kind == "i" else (0.0, 2.0**bits - 1)


def _nodata(page: tifffile.TiffPage) -> float | None:
    """Returns GDAL's value of pixels without data."""
    with contextlib.suppress(TypeError, ValueError):
        return float(str(page.tags.valueof(_NODATA)).strip(" \0"))
    return None


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    """Returns [n, 4] uint8, RGBA by index."""
    colours = page.tags.valueof(_COLOR_MAP)
    if colours is None:
        raise RefusedError("has palette indices and no palette; save it again with one")
    rgb = (np.asarray(colours).reshape(3, -1).T >> 8).astype(np.uint8)
    return np.pad(rgb, ((0, 0), (0, 1)), constant_values=255)
