"""Decodes TIFF files strictly, through tifffile and imagecodecs.

tifffile by itself logs damage and reads on, follows links between pages without end, and takes the
size of a JPEG tile from the tile. Here such a file is refused. Damage inside uncompressed pixels
cannot be seen: they have no checksum.
"""

import contextlib
import io
import logging
import math
import struct
import threading
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import tifffile
from PIL.JpegImagePlugin import JpegImageFile

from segdiff_jax.data.image_io import headers
from segdiff_jax.data.image_io.headers import RefusedError

# Numbers of the specification (TIFF 6.0 and its supplements).
_ORIENTATION, _COLOR_MAP = 274, 320
_JPEG = 7
_FAX = (2, 3, 4)  # CCITT: 0 for white is usual, and is shown as it is meant
# none, CCITT, LZW, JPEG, deflate (two numbers), PackBits, LZMA, Zstandard
_COMPRESSIONS = (1, *_FAX, 5, _JPEG, 8, 32946, 32773, 34925, 50000)
_WHITE_IS_ZERO, _PALETTE, _YCBCR = 0, 3, 6
_MODES = {0: ("grey", 1), 1: ("grey", 1), 2: ("RGB", 3), 3: ("palette", 1), 5: ("CMYK", 4)}
_ALPHA = ((1,), (2,))  # extra samples: associated, unassociated

_reading = threading.local()


def read_size(file: BinaryIO, limits: headers.Limits) -> tuple[int, int]:
    """Returns (height, width) after the orientation, from the header alone."""
    with open_page(file, limits.page) as page:
        return headers.upright_shape((page.imagelength, page.imagewidth), orientation(page))


def decode(file: BinaryIO, limits: headers.Limits) -> headers.Pixels:
    """Decodes one page of a TIFF file."""
    with open_page(file, limits.page) as page:
        mode, colours = _checked_layout(page)
        headers.check_size((page.imagelength, page.imagewidth), limits)
        if page.is_tiled:  # a tile is decoded whole
            headers.check_size((page.tilelength, page.tilewidth), limits, " in a tile")
        _check_segments(page)
        values = page.asarray(squeeze=False)[:, 0]  # [planes, H, W, samples of a plane]
        values = np.moveaxis(values, 0, -1).reshape(*values.shape[1:3], -1)
        palette = None
        if mode == "palette":
            palette, values = _palette(page), values.astype(f"u{values.itemsize}")
        turn = orientation(page)
    if mode == "grey" and page.bitspersample in (2, 4):
        values = values * np.uint8(255 // (2**page.bitspersample - 1))
    if page.photometric == _WHITE_IS_ZERO:
        values[..., :colours] = ~values[..., :colours]
    values = headers.upright(values, turn)
    return headers.Pixels(
        values[..., 0] if colours == 1 else values[..., :colours],
        mode,
        values[..., colours] if values.shape[2] > colours else None,
        palette,
        lossy=page.compression == _JPEG,
        inverted=page.photometric == _WHITE_IS_ZERO and page.compression not in _FAX,
    )


@contextlib.contextmanager
def open_page(file: BinaryIO, number: int) -> Iterator[tifffile.TiffPage]:
    """Opens a page of a TIFF file by its number, from 0; -1: the only one."""
    _reading.here = True
    try:
        file.seek(0)
        # As plain TIFF: without the rules for files of microscopes, which replace what tags hold.
        tiff = tifffile.TiffFile(file, is_lsm=False, is_ndpi=False, is_scanimage=False)
        pages = _page_offsets(tiff)
        if len(pages) > 1 and number < 0:
            raise RefusedError(f"has {len(pages)} pages; config.reading.page chooses one, from 0")
        if number >= len(pages):
            raise RefusedError(
                f"has {len(pages)} page(s), so config.reading.page={number} is not there; "
                f"at most {len(pages) - 1}"
            )
        offset, tags = list(pages.items())[max(number, 0)]
        tiff.filehandle.seek(offset)
        page = tifffile.TiffPage(tiff, max(number, 0))
        if len(page.tags) != tags:
            raise RefusedError(f"has {tags - len(page.tags)} damaged tags; {headers.ALLOWED}")
        yield page
    finally:
        _reading.here = False


# Keeps messages about files read here out of the log. Installed once: filters belong to the
# process, and a filter for each file would race with others.
logging.getLogger("tifffile").addFilter(lambda record: not getattr(_reading, "here", False))


def _page_offsets(tiff: tifffile.TiffFile) -> dict[int, int]:
    """Returns where each page begins and how many tags it has; the chain of pages must end."""
    layout, handle = tiff.tiff, tiff.filehandle
    pages: dict[int, int] = {}
    handle.seek(layout.offsetsize)  # 4 or 8 bytes, as long as what stands before it
    while offset := struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))[0]:
        if offset in pages:
            raise RefusedError("has a page that links back to one before it; it is damaged")
        handle.seek(offset)
        (pages[offset],) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
        handle.seek(offset + layout.tagnosize + pages[offset] * layout.tagsize)
    return pages


def orientation(page: tifffile.TiffPage) -> int:
    """Returns the EXIF orientation of a page, 1 if it has none."""
    return int(page.tags.valueof(_ORIENTATION, 1))


def _checked_layout(page: tifffile.TiffPage) -> tuple[str, int]:
    """Returns the mode of a page and how many of its channels are colours."""
    bits, channels, photometric = page.bitspersample, page.samplesperpixel, page.photometric
    if photometric == _YCBCR and page.compression == _JPEG:
        photometric = 2  # tifffile decodes it to RGB
    if page.compression not in _COMPRESSIONS:
        raise RefusedError(
            f"has the compression {page.compression}; allowed are none, LZW, deflate, PackBits, "
            "CCITT fax, JPEG, LZMA and Zstandard"
        )
    if bits not in (1, 2, 4, 8, 16, 32, 64) or page.dtype is None:
        raise RefusedError(f"has {bits} bits a channel; allowed are 8 and 16")
    if photometric not in _MODES:
        raise RefusedError(f"has the colours {photometric}; allowed are grey, RGB, CMYK, palettes")
    mode, colours = _MODES[photometric]
    opaque = channels == colours
    if not opaque and not (channels == colours + 1 and page.extrasamples[:1] in _ALPHA):
        raise RefusedError(
            f"has {channels} channels and is declared as {mode}; allowed are grey, RGB and CMYK, "
            "each with alpha or without"
        )
    if not (page.dtype in (np.uint8, np.uint16) or (opaque and colours == 1)):
        raise RefusedError(f"holds {page.dtype} colours; allowed are 8 and 16 bits without sign")
    if page.imagedepth != 1 or min(page.imagelength, page.imagewidth) < 1:
        shape = page.imagedepth, page.imagelength, page.imagewidth
        raise RefusedError(f"has the depth, height and width {shape}; allowed is one plane")
    return mode, colours


def _check_segments(page: tifffile.TiffPage) -> None:
    """Refuses a file that lacks strips or tiles, or has JPEG ones that are larger than declared."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    size = page.parent.filehandle.size
    whole = all(offset and count and offset + count <= size for offset, count in segments)
    if len(segments) < math.prod(page.chunked) or not whole:
        raise RefusedError("is truncated: it lacks a part of its pixels; allowed are whole images")
    if page.compression != _JPEG:
        return
    height, width = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    )
    for offset, count in segments:
        page.parent.filehandle.seek(offset)
        jpeg = JpegImageFile(io.BytesIO(page.parent.filehandle.read(count)))
        if jpeg.width > width or jpeg.height > height:
            raise RefusedError(
                f"has a JPEG part of {jpeg.height} x {jpeg.width} pixels, larger than its place "
                f"of {height} x {width}; it is damaged"
            )


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    """Returns [n, 4] uint8, RGBA by index."""
    colours = page.tags.valueof(_COLOR_MAP)
    if colours is None:
        raise RefusedError("has palette indices and no palette; save it again with one")
    rgb = (np.asarray(colours).reshape(3, -1).T >> 8).astype(np.uint8)
    return np.pad(rgb, ((0, 0), (0, 1)), constant_values=255)
