"""MoNuSeg 2018: nuclei in H&E-stained tissue of several organs, 30 training and 14 test images.

The files are the official ones, laid out as their two archives unpack:

    <dir>/MoNuSeg 2018 Training Data/Tissue Images/<id>.tif and Annotations/<id>.xml
    <dir>/MoNuSegTestData/<id>.tif and <id>.xml

Official images are known by their ids; others, which copies of the archives may hold, are left out.
Image and mask are 1000x1000 and are prepared at 512x512, the size at which SegDiff is trained
and scored; the image bilinear with antialiasing, the mask nearest.

SegDiff's own masks come from the challenge's Matlab script, whose pixel centres lie half a pixel
further to the lower right of the outlines than those of `aperio_xml`. Measured by the contrast of
the stain across the outlines, 13 official training annotations fit 0.02 +- 0.05 pixels from the
convention of `aperio_xml`. Test annotations have mostly whole numbers as vertices, for which both
conventions nearly agree: the masks of seven have a Dice of 0.993 with one another.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from segdiff_jax.data.datasets import aperio_xml, base, monuseg_images
from segdiff_jax.data.datasets.monuseg_images import OFFICIAL, VALIDATION
from segdiff_jax.errors import bad_data

OFFICIAL_SIZE = (1000, 1000)  # pixels; the outlines fit the images at this size only
SIDE = 512  # pixels, as prepared

Pair = tuple[Path, Path]  # an image file and its annotation file


class Monuseg(base.SegmentationBuilder):
    """MoNuSeg, one mask for all nuclei of an image; works on any part of the official files."""

    VERSION = tfds.core.Version("1.1.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "download the MoNuSeg 2018 training and test data from https://monuseg.grand-challenge.org,"
        " unpack both archives into one folder, and set config.data.dir to that folder"
    )

    @classmethod
    def plan(cls, directory: Path | None, options: base.Options) -> base.Plan:
        """Returns the pairs of files by split, and counts them against the official numbers."""
        del options
        assert directory is not None
        pairs = _find(directory)
        found = ", ".join(f"{len(pairs[k])} of {len(ids)} {k}" for k, ids in OFFICIAL.items())
        logging.info("MoNuSeg: found %s images", found)
        splits = {
            "train": [p for p in pairs["training"] if p[0].stem not in VALIDATION],
            "validation": [p for p in pairs["training"] if p[0].stem in VALIDATION],
            "test": pairs["test"],
        }
        items = {name: [_item(pair) for pair in split] for name, split in splits.items()}
        return base.Plan(items, notes={"found": found})


def _item(pair: Pair) -> base.Item:
    file, annotation = pair

    def read() -> Iterator[tuple[str, dict[str, Any]]]:
        image = _image(file)
        mask = aperio_xml.semantic_mask(aperio_xml.regions(annotation), *image.shape[:2])
        if not mask.any():
            raise bad_data(annotation, "no region covers a pixel of the image")
        resized = _resized(image, Image.Resampling.BILINEAR)
        yield file.stem, base.record(resized, _resized(mask, Image.Resampling.NEAREST), file.stem)

    return base.Item(pair, read)


def _find(directory: Path) -> dict[str, list[Pair]]:
    """Returns the pairs of "training" and "test", by name; a missing folder has none."""
    training, test = directory / "MoNuSeg 2018 Training Data", directory / "MoNuSegTestData"
    if not (training.is_dir() or test.is_dir()):
        raise Monuseg.misplaced(directory, f"neither {training.name!r} nor {test.name!r}")
    return {
        "training": _pairs("training", training / "Tissue Images", training / "Annotations"),
        "test": _pairs("test", test, test),
    }


def _pairs(kind: str, images: Path, annotations: Path) -> list[Pair]:
    """Returns the official pairs in a folder; logs how many others are left out."""
    if not (images if kind == "test" else images.parent).is_dir():
        return []
    # Hidden files are left out: archives packed on a Mac hold a "._<name>.tif" beside every file.
    names = re.compile(r"[^.].*\.tiff?", re.IGNORECASE)
    files = [file for file in sorted(images.glob("*")) if names.fullmatch(file.name)]
    if not files:
        raise bad_data(images, "holds no .tif image")
    official = [file for file in files if file.stem in OFFICIAL[kind]]
    if others := {file.stem for file in files} - OFFICIAL[kind]:
        logging.warning("%s", monuseg_images.describe_others(others, kind))
    if not official:
        raise bad_data(images, f"holds none of the {len(OFFICIAL[kind])} official {kind} images")
    pairs = [(file, annotations / f"{file.stem}.xml") for file in official]
    for image, annotation in pairs:
        if not annotation.is_file():
            raise bad_data(image, f"its annotation {annotation} is missing")
    return pairs


def _image(path: Path) -> np.ndarray:
    """Reads an official image, [1000, 1000, 3] uint8."""
    try:
        with Image.open(path) as file:
            size, mode = file.size, file.mode
            if size == OFFICIAL_SIZE and mode in ("RGB", "RGBA"):
                return np.array(file.convert("RGB"))
    except Exception as error:  # Pillow raises nearly anything on a damaged file
        raise bad_data(path, f"cannot be read ({error})") from error
    found = f"is {mode} of {size[0]}x{size[1]} pixels"
    raise bad_data(path, f"{found}; official images are RGB of 1000x1000")


def _resized(array: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
    return np.array(Image.fromarray(array).resize((SIDE, SIDE), resampling))
