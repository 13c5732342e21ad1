"""Pairs the images of a folder with the masks of another one, by their names."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segdiff_jax.data.classes import parse
from segdiff_jax.data.example import Example
from segdiff_jax.data.image_io import bands, class_masks, headers, reading
from segdiff_jax.data.image_io import masks as mask_files
from segdiff_jax.errors import BAD_DATA, UserError, bad_data


class PairedFiles(NamedTuple):
    """An image and its mask."""

    name: str
    image: Path
    mask: Path


def pair(images: Path, masks: Path, suffix: str) -> list[PairedFiles]:
    """Returns the pairs of two folders, by name.

    Args:
      images: folder.
      masks: folder.
      suffix: of the names of masks.

    Raises:
      UserError: there is no pair, or an image without a mask or with two; its details are a line
        for each.
    """
    by_name: dict[str, list[Path]] = {}
    for file in reading.list_images(masks):
        by_name.setdefault(file.stem, []).append(file)
    files, pairs, problems = reading.list_images(images), [], []
    for file in files:
        found = by_name.get(file.stem + suffix, [])
        if len(found) == 1:
            pairs.append(PairedFiles(file.name, file, found[0]))
        else:
            what = f"has {len(found)} masks {file.stem}{suffix} in {masks}; needed is one"
            problems.append(f"{file}: {what}")
    if problems:
        raise UserError(f"{len(problems)} of {len(files)} images: no mask", BAD_DATA, problems)
    if not pairs:
        seen = reading.kinds(images.iterdir())
        found = f" (there are {seen})" if seen else ""
        raise bad_data(images, f"holds no image{found}; {headers.ALLOWED}")
    return pairs


def settings_of(model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `read` besides the pairs.

    Args:
      model: an `api.Model`.
      given: values of the command line, which take the place of the run's.
    """
    config = model.config
    foreground = given.get("foreground", config.folder.foreground)
    return {
        "limits": headers.limits_of(config.reading, given),
        "foreground": foreground,
        "classes": "" if "foreground" in given or model.overlap else config.folder.classes,
        "channels": model.channel_names,
    }


def read(
    pairs: list[PairedFiles],
    limits: headers.Limits,
    foreground: str = "auto",
    classes: str = "",
    channels: Sequence[str] = (),
) -> Iterator[Example]:
    """Reads pairs, one at a time.

    Args:
      pairs: files.
      limits: of what is read.
      foreground: of the masks, one of those of `image_io.masks`.
      classes: of the values of the masks, see `classes.parse`; "": the foreground decides.
      channels: names of those of images; (): RGB.

    Raises:
      UserError: a file cannot be read, or a mask is not of the size of its image.
    """
    for name, image_file, mask_file in pairs:
        image = bands.read(image_file, channels, limits).pixels
        own = None
        if classes:
            own = class_masks.read(mask_file, parse(classes).numbers, limits, image_file).classes
            mask = (own > 0).astype(np.uint8)
        else:
            mask = mask_files.read_mask(mask_file, limits, foreground, image_file).pixels
        owner = f"its image {image_file.name}"
        reading.check_same_size(mask_file, mask.shape, image.shape, owner)
        yield Example(image, mask, name, classes=own)
