"""Pairs the images of a folder with the masks of another one, by their names."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from segdiff_jax.data.example import Example
from segdiff_jax.data.image_io import masks as mask_files
from segdiff_jax.data.image_io import reading
from segdiff_jax.data.image_io.headers import Limits
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
        raise bad_data(images, "holds no PNG, JPEG or TIFF file")
    return pairs


def read(pairs: list[PairedFiles], limits: Limits) -> Iterator[Example]:
    """Reads pairs, one at a time.

    Raises:
      UserError: a file cannot be read, or a mask is not of the size of its image.
    """
    for name, image_file, mask_file in pairs:
        image = reading.read_image(image_file, limits)
        mask = mask_files.read_mask(mask_file, limits).pixels
        if mask.shape != image.shape[:2]:
            what = f"is {mask.shape[1]} x {mask.shape[0]} pixels; its image {image_file.name} is"
            raise bad_data(mask_file, f"{what} {image.shape[1]} x {image.shape[0]}")
        yield Example(image, mask, name)
