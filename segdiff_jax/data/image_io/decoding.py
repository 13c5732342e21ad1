"""One image file, decoded strictly: what Pillow would pass over in silence is exact or refused.

By itself Pillow does not check the sums of a PNG, keeps only the upper byte of 16-bit colour, drops
a fourth channel that is not called alpha, takes the first page of many and wraps signed integers.
Damage inside the pixels of a JPEG or of an uncompressed TIFF cannot be seen: they carry no sums.
"""

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from segdiff_jax.data.image_io import headers

_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")  # modes of Pillow


# The name of the other order of bytes in a sample of 16 bits: Pillow then keeps the lower one.
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


class Decoded(NamedTuple):
    """The pixels of a file, the right way up.

    Attributes:
        image: loaded; its values are exact unless `deep` is given.
        deep: [H, W] or [H, W, C] uint16, where the file has 16 bits a channel; else None.
        lossy: whether it is a JPEG.
    """

    image: Image.Image
    deep: np.ndarray | None
    lossy: bool


def decode(path: Path, limits: headers.Limits) -> Decoded:
    """Decodes a file and turns it as its EXIF orientation says.

    Raises:
        UserError: the file cannot be read exactly, or is beyond the limits.
    """
    with headers.opened(path) as file:
        image = headers.header(path, file, limits)
        headers.check_size(path, image, limits)
        if isinstance(image, PngImageFile):
            image.verify()  # that no chunk is damaged or missing; uses the object up
            image = headers.header(path, file, limits)
        layout = _layout(image)
        _load(image)
        deep = None
        if image.mode in _GREY_16 or layout == "I;16B":  # the latter: PNG in Pillow before 11
            deep = np.asarray(image).astype(np.uint16)
        elif re.fullmatch(r"\w+;16[BLN]", layout):
            deep = _both_bytes(image, headers.header(path, file, limits), layout)
        return Decoded(image, deep, isinstance(image, JpegImageFile))


def _layout(image: headers.Header) -> str:
    """Returns how a pixel lies in the file, in Pillow's words, such as "RGB;16B"."""
    described: Any = image.tile[0][3]
    return described if isinstance(described, str) else described[0]


def _load(image: headers.Header) -> None:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)


def _both_bytes(upper: headers.Header, again: headers.Header, layout: str) -> np.ndarray:
    """Returns what a file of 16-bit channels holds, of which Pillow has decoded the upper bytes.

    Args:
        upper: loaded.
        again: the same file, not loaded yet.
        layout: of a pixel.
    """
    grey = layout == "LA;16B"  # Pillow knows no other order of it, but four bytes are four bytes
    other = "RGBA" if grey else layout[:-1] + _SWAPPED[layout[-1]]
    tiles: list[Any] = again.tile
    for index, tile in enumerate(tiles):
        described = other if isinstance(tile[3], str) else (other, *tile[3][1:])
        tiles[index] = getattr(tile, "_make", tuple)((*tile[:3], described))
    _load(again)
    if grey:
        return np.ascontiguousarray(again).view(">u2").astype(np.uint16)
    return np.asarray(upper).astype(np.uint16) << 8 | np.asarray(again)
