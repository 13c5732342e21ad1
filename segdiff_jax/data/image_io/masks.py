"""Reads masks from files: what is foreground, by their values or as asked for.

Without a choice of the user's the values are 0 and 1, 0 and 255, or 0 and 65535. Of a palette the
colours count: the brighter of two is foreground, as a viewer shows it. JPEG blurs 0 and 255: such a
file is a mask if each of its values is less than 48 from one of the two, which it then stands for.
`config.folder.foreground` chooses:

    auto      the above, or labels of objects: whole numbers, of which all above 0 are foreground
    nonzero   everything but 0; of a palette the indices, of colours all but black
    7         the value 7 alone; of a palette the index
    above127  all values above 127; of colours their mean
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdiff_jax.data.image_io import reading
from segdiff_jax.data.image_io.headers import Limits, Pixels
from segdiff_jax.errors import UserError, bad_data

FIELD = "config.folder.foreground"
LABELS = "labels of objects"
_ABOVE = re.compile(r"(?:above|>)\s*(-?[\d.]+(?:e[+-]?\d+)?)", re.IGNORECASE)
_MAX_LISTED = 5  # values of a refused mask
_NEAR = 48  # of 0 or 255: what JPEG makes of these, down to its usual quality of 75
_GREY = 16  # by which the channels of a grey JPEG may differ
_FLAT = 0.5  # share of the pixels of a label that must have an equal neighbour
_MAX_LABELS = 2**31 - 1


class MaskFile(NamedTuple):
    """A mask as read.

    Attributes:
        pixels: [H, W] uint8 in {0, 1}, 1 is foreground.
        top: the value of foreground in the file: 1, or 255 (also for the 65535 of 16 bits); or 0 if
            there is none, or others.
        kind: what the values are: "0 and 1", "0 and 255", "0 alone", LABELS, "colours" or "as
            asked for".
        labels: [H, W] int32, the objects by their labels, 0 for background; None: of other kinds.
    """

    pixels: np.ndarray
    top: int
    kind: str
    labels: np.ndarray | None = None


def read_mask(
    path: Path,
    limits: Limits = reading.NO_LIMITS,
    foreground: str = "",
    image: Path | None = None,
) -> MaskFile:
    """Reads a mask, turned as its EXIF orientation requires.

    Args:
        path: of the file.
        limits: of which `channels` does not count, nor `page` for a mask of one page.
        foreground: one of this module's list; "": two values only, no labels.
        image: whose mask it is, of as many pages if the mask has several; None: unknown.

    Raises:
        UserError: it is unclear what is foreground, or the file cannot be read exactly.
    """
    page = page_of(path, limits.page, image)
    pixels = reading.decode(path, limits._replace(channels=(), page=page))
    if foreground not in ("", "auto"):
        return _as_asked(path, pixels, foreground)
    try:
        return _by_values(path, pixels, labels=foreground == "auto")
    except UserError as error:
        if not foreground:
            raise
        ways = f"{FIELD}=nonzero, =VALUE or =aboveVALUE says what is foreground"
        raise UserError(f"{error}; {ways}", error.code) from error


def page_of(path: Path, page: int, image: Path | None) -> int:
    """Returns the page of a mask that belongs to the page of its image."""
    if page < 0 or (count := reading.count_pages(path)) == 1:
        return -1
    if image and (of_image := reading.count_pages(image)) != count:
        few = f"has {count} pages, and its image {image.name} {of_image}"
        raise bad_data(path, f"{few}; allowed is a mask of one page, or of as many")
    return page


def _by_values(path: Path, pixels: Pixels, labels: bool) -> MaskFile:
    if pixels.palette is not None:
        return _by_colours(path, pixels.values, pixels.palette)
    reading.check_opaque(path, pixels)
    values = pixels.values
    if pixels.mode == "CMYK":
        raise bad_data(path, "holds pixels of mode CMYK; a mask is grey, or has a palette")
    if pixels.inverted:
        raise bad_data(path, "is a TIFF with 0 for white; in a mask allowed is 0 for black")
    advice = ": JPEG is lossy, so keep masks as PNG" if pixels.lossy else ""
    if values.ndim == 3:
        lossy = pixels.lossy and values.dtype == np.uint8
        grey = values.max(-1) - values.min(-1) <= _GREY if lossy else values == values[..., :1]
        if not grey.all():
            raise bad_data(path, f"is coloured; a mask is grey, or has a palette{advice}")
        values = _mean(values) if pixels.lossy else values[..., 0]
    if values.dtype.kind == "f":
        values = whole_numbers(path, values)
    if pixels.lossy and values.dtype == np.uint8:
        values = _without_blur(values)
    top = int(values.max())
    if top in (0, 1, 255, 65535) and ((values == 0) | (values == top)).all():
        kind = {0: "0 alone", 1: "0 and 1"}.get(top, "0 and 255")
        return MaskFile((values > 0).astype(np.uint8), min(top, 255), kind)
    if labels and not pixels.lossy and _are_labels(values):
        return MaskFile((values > 0).astype(np.uint8), 0, LABELS, values.astype(np.int32))
    raise bad_data(path, _other_values(values) + advice)


def _by_colours(path: Path, indices: np.ndarray, palette: np.ndarray) -> MaskFile:
    used = np.unique(indices)
    if used[-1] >= len(palette):
        found = f"uses the palette index {used[-1]}, but has {len(palette)} colours"
        raise bad_data(path, found)
    bright = palette[:, :3].astype(float) @ (0.299, 0.587, 0.114)
    colours = [f"index {i}: {tuple(map(int, palette[i, :3]))}" for i in used[:_MAX_LISTED]]
    if len(used) == 1:  # foreground if it is brighter than another colour, or no black
        is_foreground = bright[used[0]] > min(bright.min(), 127)
        pixels = np.full(indices.shape, is_foreground, np.uint8)
        return MaskFile(pixels, int(is_foreground), "colours")
    first, second = bright[used[:2]] if len(used) == 2 else (0.0, 0.0)
    if first == second:
        what = "two colours of one brightness" if len(used) == 2 else f"{len(used)} colours"
        more = ", ..." if len(used) > _MAX_LISTED else ""
        found = f"mask has a palette, and {what} of it ({', '.join(colours)}{more})"
        raise bad_data(path, f"{found}; allowed are two, of which the brighter is foreground")
    brighter = used[int(second > first)]
    return MaskFile((indices == brighter).astype(np.uint8), 1, "colours")


def _as_asked(path: Path, pixels: Pixels, foreground: str) -> MaskFile:
    values = pixels.values
    if pixels.inverted and values.dtype.kind == "u" and values.itemsize > 1:
        values = ~values
    above = _ABOVE.fullmatch(foreground)
    if pixels.palette is not None and above:
        values = pixels.palette[values, :3]
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise bad_data(path, f"{np.isnan(values).sum()} of {values.size} values are NaN")
    if above:
        chosen = _mean(values) > float(above[1])
    elif foreground == "nonzero":
        chosen = (values != 0).any(-1) if values.ndim == 3 else values != 0
    else:
        wanted = float(foreground)
        chosen = (values == wanted).all(-1) if values.ndim == 3 else values == wanted
    labels = None
    if foreground == "nonzero" and values.ndim == 2 and values.dtype.kind in "ui":
        labels = values.astype(np.int32) if len(np.unique(values)) > 2 else None
    return MaskFile(chosen.astype(np.uint8), int(chosen.any()), "as asked for", labels)


def _mean(values: np.ndarray) -> np.ndarray:
    """Returns [H, W], the rounded mean over the channels of [H, W, C], of [H, W] itself."""
    if values.ndim == 2:
        return values
    mean = values.mean(-1)
    return mean if values.dtype.kind == "f" else np.rint(mean).astype(values.dtype)


def whole_numbers(path: Path, values: np.ndarray) -> np.ndarray:
    """Returns floats as integers, if all of them are."""
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(values) & (values == np.rint(values)) & (abs(values) <= _MAX_LABELS)
    if not whole.all():
        found = f"holds floats from {values.min():g} to {values.max():g}"
        raise bad_data(path, f"{found}; a mask holds 0 and 1, or 0 and 255, in one channel")
    return values.astype(np.int32)


def _without_blur(values: np.ndarray) -> np.ndarray:
    """Returns the values of a JPEG of 0 and 255 with these two; of another, as they are."""
    low, high = values < _NEAR, values > 255 - _NEAR
    if not (low | high).all() or not high.any():
        return values
    return np.where(high, np.uint8(255), np.uint8(0))


def _are_labels(values: np.ndarray) -> bool:
    """Returns whether [H, W] integers are the labels of objects: regions of one value each.

    An anti-aliased mask or a photograph has hardly any equal neighbours between black and white;
    255 beside other values of 8 bits is often no object, but what is to be ignored; so is 65535.
    """
    low, top = int(values.min()), int(values.max())
    if low != 0 or top > _MAX_LABELS:
        return False
    if values.dtype.kind == "u" and top == np.iinfo(values.dtype).max:
        return False
    across, down = values[:, 1:] == values[:, :-1], values[1:] == values[:-1]
    equal = np.zeros(values.shape, bool)
    equal[:, 1:] |= across
    equal[:, :-1] |= across
    equal[1:] |= down
    equal[:-1] |= down
    between = (values > 0) & (values < top)
    return bool(equal[between].mean() >= _FLAT) if between.any() else True


def _other_values(values: np.ndarray) -> str:
    found = [str(value) for value in np.unique(values)]
    more = f" and {len(found) - _MAX_LISTED} more" if len(found) > _MAX_LISTED else ""
    listed = ", ".join(found[:_MAX_LISTED])
    return f"mask holds the values {listed}{more}; allowed are 0 and 1, or 0 and 255"
