"""Reads the pictures that a browser sent, whose names may be anything."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdiff_jax.data.image_io import bands, pixel_size, writing
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.data.image_io.pixel_size import Scale
from segdiff_jax.errors import UserError, printable
from segdiff_jax.prediction import image_reader

MOST_CHARACTERS = 100  # of a name
_UNUSUAL = re.compile(r"[^\w.() -]")  # in names of files that are given back
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # on Windows


class Picture(NamedTuple):
    """A picture as it was read.

    Attributes:
      name: of its file, of characters that can be shown; unique among those of a page.
      pixels: [H, W, 3] uint8; or [H, W, C] of other channels.
      tags: that files made of it get.
      scale: how large its pixels are; None: the file does not say.
      values: what more than 8 bits became, see `reading.ReadImage`.
    """

    name: str
    pixels: np.ndarray
    tags: writing.Tags
    scale: Scale | None
    values: str


def read(path: Path, name: str, limits: Limits, channels: Sequence[str] = ()) -> Picture:
    """Reads a file that was sent.

    Args:
      path: where it lies.
      name: of the file where it came from, as `shown_name` gives it.
      limits: of what is read.
      channels: names of those of the network's images; (): RGB.

    Raises:
      UserError: it cannot be read exactly, or is beyond the limits; the line begins with the name.
    """
    try:
        image, values = bands.read(path, channels, limits)
        tags = writing.usable_tags(writing.read_tags(path, limits.page), ".tif", name)
        scale = pixel_size.read(path, limits.page)
    except Exception as error:  # libraries raise nearly anything
        found = image_reader.problem(path, error)
        line = str(found).replace(str(path), name)
        raise UserError(line if line.startswith(name) else f"{name}: {line}", found.code) from error
    return Picture(name, image, tags, scale, values)


def shown_name(sent: str) -> str:
    """Returns a name as it is shown: without folders, control characters escaped, not too long."""
    name = printable(re.split(r"[/\\]", sent)[-1]) or "picture"
    if len(name) <= MOST_CHARACTERS:
        return name
    stem, suffix = os.path.splitext(name)
    suffix = suffix[:10]
    return f"{stem[: MOST_CHARACTERS - len(suffix) - 3]}...{suffix}"


def unique(name: str, taken: set[str]) -> str:
    """Returns a name that is not taken: "a.png", or "a (2).png"."""
    stem, suffix = os.path.splitext(name)
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{stem} ({number}){suffix}"
    return found


def file_stem(name: str) -> str:
    """Returns the stem of files that are made of a picture, which every system takes."""
    stem = _UNUSUAL.sub("_", os.path.splitext(name)[0]).strip(" .")
    return f"_{stem}" if not stem or _RESERVED.match(stem) else stem
