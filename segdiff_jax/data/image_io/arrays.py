"""Converts what people have in memory, arrays and Pillow's images, to the pixels of an image.

The same rules as for files: nothing is guessed. Transparency and numbers without a usual range are
refused, and an array of four channels is, since nobody knows what the fourth is.
"""

from typing import Any

import numpy as np
from PIL import Image, ImageCms

from segdiff_jax.data.image_io import value_range
from segdiff_jax.data.image_io.headers import Pixels

ALLOWED = (
    "allowed are Pillow images, and arrays [H, W], [H, W, 1] or [H, W, 3] of bool, uint8, uint16, "
    "or floats of 0..1 or 0..255"
)
_INTEGERS = {"I": np.uint16}  # modes of Pillow that hold 16 bits in 32
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}
_SHOWN = {"1": "L", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "P": "RGB"}


def to_rgb(image: Any, setting: str = "auto") -> np.ndarray:
    """Returns an image as [H, W, 3] uint8.

    Args:
        image: of Pillow, of any mode; or what NumPy makes an array of: [H, W], [H, W, 1] or
            [H, W, 3], RGB, of any strides. uint8 and bool are taken as they are; of floats 1 is
            white, or 255 if any is above 1.
        setting: of the range of uint16, `config.reading.value_range`.

    Raises:
        ValueError: it is something else; the message says what came, and what is allowed.
    """
    try:
        values = _of_pillow(image) if isinstance(image, Image.Image) else np.asarray(image)
    except Exception as error:  # __array__ of other libraries, a file that Pillow reads only now
        raise ValueError(f"the image is {_named(image)}: {error}; {ALLOWED}") from error
    shape, dtype = values.shape, values.dtype
    if dtype.kind in "OSU":
        raise ValueError(f"the image is {_named(image)}; {ALLOWED}")
    if len(shape) not in (2, 3) or 0 in shape or shape[2:] not in ((), (1,), (3,)):
        hint = ""
        if shape[2:] == (4,):
            hint = ": put it on a background first, if the fourth channel is alpha"
        elif len(shape) == 3 and shape[0] in (1, 3):
            hint = ": channels come last"
        raise ValueError(f"the image has the shape {shape}{hint}; {ALLOWED}")
    values = values if values.ndim == 3 else values[..., None]
    rgb = np.empty((*shape[:2], 3), np.uint8)
    rgb[:] = of_8_bits(values, setting)
    return rgb


def _named(image: Any) -> str:
    text = repr(image) if isinstance(image, str | bytes | None.__class__) else ""
    return f"{type(image).__name__} {text[:60]}".strip()


def _of_pillow(image: Image.Image) -> np.ndarray:
    """Returns the values that an image of Pillow shows, [H, W] or [H, W, 3]."""
    mode = image.mode
    image = image.convert(_PREMULTIPLIED[mode]) if mode in _PREMULTIPLIED else image
    if image.mode in ("LA", "RGBA") or "transparency" in image.info:
        _check_opaque(image)
        image = image.convert("L" if image.mode in ("L", "LA") else "RGB")
    elif mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None  # it is, in place only
        image = converted
    elif image.mode in _SHOWN:
        image = image.convert(_SHOWN[image.mode])
    values = np.asarray(image)
    if mode in _INTEGERS and values.size and 0 <= values.min() and values.max() <= 65535:
        return values.astype(_INTEGERS[mode])
    return values


def _check_opaque(image: Image.Image) -> None:
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    if count := np.count_nonzero(alpha < 255):
        of = f"{count} of {alpha.size} pixels are transparent"
        raise ValueError(f"{of}, in mode {image.mode}: put it on a background first")


def of_8_bits(values: np.ndarray, setting: str) -> np.ndarray:
    """Returns values of an allowed type as uint8."""
    dtype = values.dtype
    if dtype == np.uint8:
        return values
    if dtype.kind == "b":
        return values * np.uint8(255)
    if dtype.newbyteorder("=") == np.uint16:
        pixels = Pixels(values.astype(np.uint16), "grey")
        return value_range.scaled(pixels, value_range.find(pixels, setting))
    low, high = (values.min(), values.max()) if dtype.kind in "iuf" else (0, 0)
    if dtype.kind != "f":
        found = f" from {low} to {high}" if dtype.kind in "iu" else ""
        raise ValueError(f"the image is {dtype}{found}; {ALLOWED}")
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"the image is {dtype} with NaN or infinity; {ALLOWED}")
    if low < 0 or high > 255:
        raise ValueError(f"the image is {dtype} from {low:g} to {high:g}; {ALLOWED}")
    return np.rint(values.astype(np.float64) * (255 if high <= 1 else 1)).astype(np.uint8)
