"""What the tags of a TIFF say that Pillow does not heed."""

from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _PLANES = 256, 257, 258, 262, 277, 284


_TILE_WIDTH, _TILE_HEIGHT, _SAMPLE_FORMAT = 322, 323, 339


_WHITE_IS_ZERO, _SEPARATE, _SIGNED = 0, 2, 2


_BIG_ENDIAN = b"MM"


def stored_size(image: TiffImageFile) -> tuple[int, int]:
    """Returns (width, height) before the orientation; newer Pillows turn `image.size`."""
    return image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]


def tile_size(image: TiffImageFile) -> tuple[int, int]:
    """Returns (width, height) of its tiles, which are decoded whole; (0, 0) if it has strips."""
    return image.tag_v2.get(_TILE_WIDTH, 0), image.tag_v2.get(_TILE_HEIGHT, 0)


def white_is_zero(image: Image.Image) -> bool:
    """Returns whether this is a TIFF that writes white as 0; Pillow turns its values round."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def problem(image: TiffImageFile) -> str:
    """Returns why Pillow would read this image, but not as it is meant; "" if it would."""
    tags: Any = image.tag_v2
    bits, samples = tags.get(_BITS, (1,)), tags.get(_SAMPLES, 1)
    apart = samples > 1 and tags.get(_PLANES) == _SEPARATE
    width, height = stored_size(image)
    if image.mode == "RGBX" or samples > len(image.getbands()):
        return f"has {samples} channels; allowed are grey, RGB, CMYK, each with alpha or without"
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()) and image.mode != "I":
        return "holds signed integers; allowed are unsigned ones, of 8 or 16 bits"
    if not set(bits) <= {1, 2, 4, 8, 16, 32}:
        return f"has {max(bits)} bits a channel; allowed are 8 and 16"
    if 16 in bits and white_is_zero(image):
        return "holds 16 bits with 0 for white; allowed is 0 for black"
    if 16 in bits and apart:
        return "holds channels of 16 bits one after another; allowed is pixel after pixel"
    # Pillow takes the bytes of the first in the wrong order, and of the second if compressed.
    if tags.prefix == _BIG_ENDIAN and (
        image.mode == "I" or (image.mode == "F" and image.use_load_libtiff)
    ):
        return "holds 32 bits with the highest byte first; allowed is the lowest first"
    if _covered(image) < width * height * (samples if apart else 1):
        return "lacks a part of its pixels; allowed are whole images"
    return ""


def _covered(image: TiffImageFile) -> float:
    """Returns how many pixels the strips or tiles of all planes have together."""
    if image.use_load_libtiff:  # which finds out by itself
        return float("inf")
    tiles: Any = image.tile
    return sum((right - left) * (bottom - top) for _, (left, top, right, bottom), *_ in tiles)
