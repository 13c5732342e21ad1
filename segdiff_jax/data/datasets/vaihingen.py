"""Vaihingen buildings: 168 aerial images with one building each, 100 to train on and 68 to test.

The files are those that DSAC (Marcos et al., 2018) published and DARNet and SegDiff used:

    <dir>/building_001.tif ... building_168.tif             512x512, near infrared, red and green
    <dir>/building_mask_001.tif ... building_mask_168.tif   the building in the middle

Other files of its archive, such as the masks of all buildings, are not read.

All three cut the list of names, sorted as text, after 100: DSAC by counting, the others by the
files they find. That is by number as long as the names are padded with zeros, as the published
ones are. Of names without padding the last 68 would be 4-9 and 38-99, none of them a test image,
so the split is a list of numbers here and neither names nor directories decide.

Images and masks are prepared at 256x256, the size at which SegDiff is trained and scored:

    authors   image: every second pixel; mask: the mean of 2x2 pixels, foreground from 0.5 on
    area      image: the mean of 2x2 pixels, rounded; mask: foreground where it fills half or more

The authors' 0.5 is in the file's own units. A mask of {0, 1} needs two of the four pixels; in one
of {0, 255} a single pixel is enough, so the building grows by up to a pixel. The published masks
have one bit a pixel, going by the Matlab script that writes them; OpenCV, with which the authors
read, makes 0 and 255 of that.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from segdiff_jax.data import resize
from segdiff_jax.data.datasets import base
from segdiff_jax.data.image_io import masks as mask_files
from segdiff_jax.data.image_io import reading
from segdiff_jax.errors import bad_data

OFFICIAL_SIZE = (512, 512)  # (height, width), pixels
SIZE = (256, 256)  # as prepared
COUNT = 168  # of the images, numbered from 1
# Held out of the 100 training images: every fifth. DARNet too held out 20, at random.
VALIDATION = tuple(range(5, 101, 5))
SPLITS = {
    "train": tuple(number for number in range(1, 101) if number % 5),
    "validation": VALIDATION,
    "test": tuple(range(101, COUNT + 1)),
}
FILE = re.compile(r"building_(?P<mask>mask_)?(?P<number>[0-9]+)\.tiff?", re.IGNORECASE)


class Vaihingen(base.SegmentationBuilder):
    """The Vaihingen buildings; all 168 images and masks are needed."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "download the Vaihingen buildings that https://github.com/dmarcosg/DSAC links to, unpack "
        "the archive, and set config.data.dir to its folder 'buildings' (building_001.tif, "
        "building_mask_001.tif, ...) or to the folder which holds that one"
    )

    DEFAULTS: ClassVar[base.Options] = {"resize": "authors"}

    @classmethod
    def variants(cls, directory: Path | None, options: base.Options) -> dict[str, base.Options]:
        """Returns one prepared set, named after the rule by which its images are resized."""
        del directory
        return {options["resize"]: options}

    @classmethod
    def plan(cls, directory: Path | None, options: base.Options) -> base.Plan:
        """Returns the pairs by split; every missing or surplus file is a problem.

        Raises:
            UserError: no file in the directory is named like these.
        """
        assert directory is not None
        folder = directory / "buildings" if (directory / "buildings").is_dir() else directory
        images, masks, problems = _find(folder)
        if not (images or masks):
            raise cls.misplaced(directory, "no building_<number>.tif")
        problems += _missing(folder, images, masks)
        items = {
            split: [
                _item(number, images[number], masks[number], options)
                for number in numbers
                if number in images and number in masks
            ]
            for split, numbers in SPLITS.items()
        }
        notes = {"resize": options["resize"], **{k: list(v) for k, v in SPLITS.items()}}
        return base.Plan(items, tuple(problems), notes)


def _find(folder: Path) -> tuple[dict[int, Path], dict[int, Path], list[str]]:
    """Returns images and masks by number, and a line for each file that cannot be one of them."""
    images: dict[int, Path] = {}
    masks: dict[int, Path] = {}
    problems = []
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (match := FILE.fullmatch(file.name)):
            continue
        kind, number = masks if match["mask"] else images, int(match["number"])
        if not 1 <= number <= COUNT:
            problems.append(f"{file}: number {number}; allowed are 1 to {COUNT}")
        elif number in kind:
            problems.append(f"{file}: number {number} again, beside {kind[number].name}")
        else:
            kind[number] = file
    return images, masks, problems


def _missing(folder: Path, images: dict[int, Path], masks: dict[int, Path]) -> list[str]:
    problems = []
    for number in range(1, COUNT + 1):
        image, mask = f"building_{number:03d}.tif", f"building_mask_{number:03d}.tif"
        if number in images and number not in masks:
            problems.append(f"{images[number]}: its mask {mask} is missing")
        elif number in masks and number not in images:
            problems.append(f"{masks[number]}: its image {image} is missing")
        elif number not in images:
            problems.append(f"{folder / image}: missing, and so is {mask}; all {COUNT} are needed")
    return problems


def _item(number: int, image: Path, mask: Path, options: base.Options) -> base.Item:
    resize, limits = RESIZES[options["resize"]], options["limits"]

    def read() -> Iterator[tuple[str, dict[str, Any]]]:
        pixels, truth = reading.read_image(image, limits), _read_mask(mask, limits)
        for file, shape in ((image, pixels.shape), (mask, truth.pixels.shape)):
            reading.check_same_size(file, shape, OFFICIAL_SIZE, "official files")
        if not truth.pixels.any():
            raise bad_data(mask, "holds no building; every official mask does")
        name = f"building_{number:03d}"
        yield name, base.record(*resize(pixels, truth), name)

    return base.Item((image, mask), read)


def _read_mask(file: Path, limits: reading.Limits) -> mask_files.MaskFile:
    values = reading.decode(file, limits._replace(channels=(), page=-1)).values
    if values.dtype == bool:  # whichever bit the file stores for white; OpenCV makes white 255
        return mask_files.MaskFile(values.astype(np.uint8), 255, "0 and 255")
    return mask_files.read_mask(file, limits)


def _as_the_authors(image: np.ndarray, mask: mask_files.MaskFile) -> tuple[np.ndarray, np.ndarray]:
    means = resize.bilinear(mask.pixels.astype(np.float32) * mask.top, SIZE)
    return resize.nearest(image, SIZE), (means >= 0.5).astype(np.uint8)


def _by_area(image: np.ndarray, mask: mask_files.MaskFile) -> tuple[np.ndarray, np.ndarray]:
    covered = resize.bilinear(mask.pixels, SIZE)  # at half the size: the mean of 2x2 pixels
    return np.rint(resize.bilinear(image, SIZE)).astype(np.uint8), (covered >= 0.5).astype(np.uint8)


RESIZES = {"authors": _as_the_authors, "area": _by_area}
