"""Finds which values of an image are black and white, and scales it to 8 bits.

A container of 16 bits says little about its values: cameras of 10, 12 and 14 bits use a part of it,
satellites another, and floats have any range. `config.reading.value_range` is

    full      the range of the type: 0..65535 of uint16, 0..1 of floats
    LOW,HIGH  these values
    auto      what the file declares; else the narrowest of the usual ranges (8, 10, 12, 14 or 16
              bits; 0..1 of floats, or -1..1) that holds the image's values, but for 0.1 % at each
              end; else these percentiles themselves, if they fill less than an eighth of such a
              range, or go below 0

A declaration of the whole type, which many programs write into every file, counts as none, and so
does one that the image's percentiles exceed. Images of up to 8 bits are never changed.
"""

import math
from typing import NamedTuple

import numpy as np

from segdiff_jax.data.image_io.headers import Pixels, RefusedError

BITS = (8, 10, 12, 14, 16)  # of cameras
TAIL = 0.001  # share of the values, at each end, that may be outliers
LEAST = 1 / 8  # of a usual range that an image fills
SAMPLE = 2**22  # values that percentiles are computed of
ROWS = 2**20  # values that are scaled at a time: bounds memory
DIM = 1 / 4  # of a range that was asked for; an image that ends below is pointed out


class Range(NamedTuple):
    """The values of black and white, and where they are from."""

    low: float
    high: float
    source: str


def find(pixels: Pixels, setting: str) -> Range:
    """Returns the range of an image of more than 8 bits, by a setting of this module's list.

    Raises:
        RefusedError: the image holds complex numbers, or NaN or infinity that are not its value
            for "no data".
    """
    values = _with_data(pixels)
    whole = _whole(values.dtype)
    if setting == "full":
        return Range(*whole, "the whole type")
    if setting != "auto":
        low, high = map(float, setting.split(","))
        return Range(low, high, "as given")
    low, high = _percentiles(values)
    declared = pixels.declared
    if declared and declared != whole and declared[0] <= low and high <= declared[1]:
        return Range(*declared, "declared by the file")
    for bottom, top in _usual(values.dtype):
        if bottom <= low and high <= top:
            if high - low >= LEAST * (top - bottom) or high == low:
                return Range(bottom, top, "usual for its values")
            break
    return Range(low, high if high > low else low + 1, "its percentiles")


def scaled(pixels: Pixels, chosen: Range) -> np.ndarray:
    """Returns values as uint8: low becomes 0, high 255, what is beyond is clipped, rounded.

    Pixels without data become 0.
    """
    values, result = pixels.values, np.empty(pixels.values.shape, np.uint8)
    step = max(ROWS // max(values[:1].size, 1), 1)
    factor = 255 / (chosen.high - chosen.low)
    for top in range(0, len(values), step):
        rows = values[top : top + step].astype(np.float64)
        rows[~np.isfinite(rows)] = chosen.low  # only where there are no data, see `find`
        part = np.rint(np.clip((rows - chosen.low) * factor, 0, 255)).astype(np.uint8)
        part = 255 - part if pixels.inverted else part
        if pixels.nodata is not None and not math.isnan(pixels.nodata):
            part[values[top : top + step] == pixels.nodata] = 0
        result[top : top + step] = part
    return result


def describe(pixels: Pixels, chosen: Range) -> str:
    """Returns what was read, as "uint16 0..3968: 0..4095, usual for its values"."""
    values = _with_data(pixels)
    found = f"{values.dtype} {values.min():g}..{values.max():g}"
    beyond = np.count_nonzero(values < chosen.low) + np.count_nonzero(values > chosen.high)
    clipped = f", {beyond / values.size:.2%} clipped" if beyond else ""
    text = f"{found}: {chosen.low:g}..{chosen.high:g}, {chosen.source}{clipped}"
    asked = chosen.source in ("the whole type", "as given")
    if asked and values.max() < chosen.low + DIM * (chosen.high - chosen.low):
        text += "; it is dark: config.reading.value_range=auto would brighten it"
    return text


def _with_data(pixels: Pixels) -> np.ndarray:
    """Returns the values [n] or [H, W, ...] of all pixels that have data."""
    values = pixels.values
    if values.dtype.kind not in "uif":
        raise RefusedError(f"holds {values.dtype} numbers; allowed are integers and floats")
    if pixels.nodata is not None:
        nodata = pixels.nodata
        has = ~np.isnan(values) if math.isnan(nodata) else values != nodata
        values = values[has] if has.any() else values
    if values.dtype.kind == "f" and (count := np.count_nonzero(~np.isfinite(values))):
        raise RefusedError(f"{count} of {values.size} values are NaN or infinite; none may be")
    return values


def _whole(dtype: np.dtype) -> tuple[float, float]:
    if dtype.kind == "f":
        return 0.0, 1.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def _usual(dtype: np.dtype) -> list[tuple[float, float]]:
    """Returns the usual ranges, narrow ones first."""
    tops = [2.0**bits - 1 for bits in BITS]
    if dtype.kind == "f":
        return [(0.0, 1.0), (-1.0, 1.0), *((0.0, top) for top in tops)]
    highest = _whole(dtype)[1]
    return [(0.0, top) for top in (*(top for top in tops if top < highest), highest)]


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    """Returns the values that `TAIL` of all are below and above; of few, the least and the most."""
    flat = values.reshape(-1)
    step = -(-flat.size // SAMPLE) | 1
    flat = flat[:: step + 2 if step % 3 == 0 else step]  # else only one of three channels
    outside = int(TAIL * flat.size)
    ordered = np.partition(flat, (outside, flat.size - 1 - outside))
    return float(ordered[outside]), float(ordered[flat.size - 1 - outside])
