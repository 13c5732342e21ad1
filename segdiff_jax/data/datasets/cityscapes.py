"""Cityscapes, one object an example: vehicles and people cut from street scenes, class by class.

The files are the official ones, laid out as their two archives unpack:

    <dir>/leftImg8bit/{train,val}/<city>/<frame>_leftImg8bit.png
    <dir>/gtFine/{train,val}/<city>/<frame>_gtFine_instanceIds.png

The mask of an object is its visible part, taken from the instance ids: official files that are the
same on every machine, where pixels drawn from the polygons depend on the release of Pillow.

Kept are the pieces of an object of more than 100 pixels, as in the lists that SegDiff used; those
lists are gone, and docs/cityscapes.md lists the differences.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from segdiff_jax.data import object_crops
from segdiff_jax.data.crops import CropFn
from segdiff_jax.data.datasets import base
from segdiff_jax.data.datasets.cityscapes_files import Frame, frames
from segdiff_jax.data.datasets.cityscapes_instances import MIN_AREA, Instance, instances, read_ids
from segdiff_jax.data.example import Example
from segdiff_jax.data.image_io import reading

OFFICIAL_COUNTS = {"train": 2975, "val": 500}
VALIDATION = ("weimar", "zurich")  # cities held back from the official "train": 264 frames


class Cityscapes(base.SegmentationBuilder):
    """Objects of one class; works on any part of the official files."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from "
        "https://www.cityscapes-dataset.com, unpack both into one folder, and set "
        "config.data.dir to that folder"
    )

    DEFAULTS: ClassVar[base.Options] = {"classes": ("bus",)}

    @classmethod
    def variants(cls, directory: Path | None, options: base.Options) -> dict[str, base.Options]:
        """Returns one prepared set a class; no other option changes its examples."""
        del directory
        return {name: {"class": name, "limits": options["limits"]} for name in options["classes"]}

    @classmethod
    def train_crop(cls, options: base.Options, size: int, seed: int) -> CropFn:
        """Returns the crop of a randomly enlarged box, resized to `options["size"]`."""
        del size
        low, high = options["train_expansion"]
        return object_crops.train_crop(options["size"], low, high, options["redraw"], seed)

    @classmethod
    def eval_crop(cls, options: base.Options, example: Example) -> Example:
        """Returns the enlarged box of an object, its image resized to `options["size"]`."""
        return object_crops.eval_crop(example, options["test_expansion"], options["size"])

    @classmethod
    def plan(cls, directory: Path | None, options: base.Options) -> base.Plan:
        """Returns the frames by split, and counts them against the official numbers."""
        assert directory is not None
        if not any((directory / folder).is_dir() for folder in ("leftImg8bit", "gtFine")):
            raise cls.misplaced(directory, "neither 'leftImg8bit' nor 'gtFine'")
        problems: list[str] = []
        official = {split: frames(directory, split, problems) for split in OFFICIAL_COUNTS}
        twice = {f.name for f in official["train"]} & {f.name for f in official["val"]}
        problems += [f"{directory}: frame {name} is in train and in val" for name in sorted(twice)]
        found = ", ".join(f"{len(official[k])} of {n} {k}" for k, n in OFFICIAL_COUNTS.items())
        logging.info("Cityscapes: found %s frames", found)
        splits = {
            "train": [f for f in official["train"] if f.city not in VALIDATION],
            "validation": [f for f in official["train"] if f.city in VALIDATION],
            "test": official["val"],
        }
        label = options["class"]
        read = partial(_examples, label=label, limits=options["limits"])
        items = {
            split: [base.Item((f.image, f.instance_ids), partial(read, f)) for f in chosen]
            for split, chosen in splits.items()
        }
        notes = {"found": found, "validation_cities": list(VALIDATION), "class": label}
        nothing = f"no {label} with a piece of more than {MIN_AREA} pixels in them"
        nothing = f"{directory}: {found} frames were found, and {nothing}"
        return base.Plan(items, tuple(problems), notes, nothing)


def _examples(
    frame: Frame, label: str, limits: reading.Limits
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the objects of a class in one frame; its image is only read if it has one."""
    ids = read_ids(frame.instance_ids, limits)
    found = list(instances(ids, label))
    if not found:
        return
    image = reading.read_image(frame.image, limits)
    reading.check_same_size(frame.image, image.shape, ids.shape, str(frame.instance_ids))
    for instance in found:
        name = f"{frame.name}_{instance.id}"
        yield name, _record(image, instance, name, label)


def _record(image: np.ndarray, instance: Instance, name: str, label: str) -> dict[str, Any]:
    """Returns the record of one object: image and mask around it, and its box in them."""
    top, left, bottom, right = object_crops.stored_window(instance.box, *image.shape[:2])
    row, column, height, width = np.subtract(instance.box, (top, left, 0, 0)).tolist()
    mask = np.zeros((bottom - top, right - left), np.uint8)
    mask[row : row + height, column : column + width] = instance.mask
    crop = image[top:bottom, left:right]
    return base.record(crop, mask, name, (row, column, height, width), label)
