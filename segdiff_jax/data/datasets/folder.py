"""Reads your own images and masks from a folder.

    <dir>/images/X.png and masks/X.png                      one mask an image
    <dir>/images/X.png and masks/X/*.png                    one mask an object; their union counts
    <dir>/X/images/<any>.png and X/masks/*.png              likewise, as the Data Science Bowl 2018
    <dir>/X.png and X_mask.png                              or with config.folder.mask_suffix=_a
    <dir>/imagesTr/X_0000.png and labelsTr/X.png            perhaps imagesTs, labelsTs, as nnU-Net
    <dir>/train/..., test/..., perhaps validation/...       each in one of these layouts

Any of them may lie inside one more folder, as archives unpack. `image_io.reading` and `masks` say
which files are read. A mask has the name of its image and `config.folder.mask_suffix`, whatever
their suffixes; or names that differ by what all images or all masks have before or behind. A file
of another kind is ignored, and counted.

Masks of several annotators lie in folders masks_1, masks_2 and so on in place of masks, or their
names end in a suffix each, as with mask_suffix=_1stHO,_2ndHO. Every image needs a mask of every
annotator; one who saw nothing drew a mask of zeros.

With `config.folder.classes` the values of masks, or of files in classes/ beside masks/, are classes
(`folder_classes`); or each class has masks of its own, which may overlap (`folder_overlaps`).

Images keep their size. Where there is no folder for validation or test, images are drawn for them
from the training images, by a hash of their names and `config.folder.seed`: adding an image moves
no other. The prepared set's metadata.json lists the names of every split.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from segdiff_jax.data.classes import parse
from segdiff_jax.data.datasets import (
    base,
    folder_classes,
    folder_layout,
    folder_overlaps,
    folder_pairs,
    folder_seen,
)
from segdiff_jax.data.datasets.folder_classes import SeenClasses
from segdiff_jax.data.datasets.folder_overlaps import SeenOverlaps
from segdiff_jax.data.datasets.folder_seen import Seen
from segdiff_jax.data.image_io import bands, pixel_size, reading
from segdiff_jax.data.image_io import masks as mask_files
from segdiff_jax.errors import UserError


class Folder(base.SegmentationBuilder):
    """A folder of images and masks."""

    VERSION = tfds.core.Version("1.3.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"set config.data.dir to a folder that holds {folder_layout.LAYOUTS}"
    )

    DEFAULTS: ClassVar[base.Options] = {
        "mask_suffix": "",
        "foreground": "auto",
        "classes": "",
        "validation_share": 0.1,
        "test_share": 0.2,
        "seed": 0,
    }

    @classmethod
    def variants(cls, directory: Path | None, options: base.Options) -> dict[str, base.Options]:
        """Returns one prepared set, named after the folder, its path and the options."""
        folder = _required(directory).absolute()
        name = re.sub(r"[^\w.-]+", "_", folder.name) or "root"
        if not options.get("classes"):  # sets of versions without this option are as they were
            options = {key: value for key, value in options.items() if key != "classes"}
        return {f"{name[:40]}-{base.digest(str(folder), options)[:8]}": options}

    @classmethod
    def plan(cls, directory: Path | None, options: base.Options) -> base.Plan:
        """Returns the pairs by split; every file that does not fit is a problem.

        Raises:
            UserError: the directory is in none of the layouts.
        """
        text = options.get("classes", "")
        of_classes = parse(text)
        found = folder_layout.find(_required(directory), options["mask_suffix"], of_classes)
        if text and not of_classes.sources:
            folder_classes.with_files(found)
        problems = [line for part in found.values() for line in part.problems]
        if of_classes.sources:
            problems = [folder_overlaps.explained(line) for line in problems]
        shares = {name: options[f"{name}_share"] for name in ("validation", "test")}
        pairs = {name: part.pairs for name, part in found.items()}
        splits = folder_layout.assign(pairs, shares, options["seed"])
        if not (splits["train"] or problems):
            problems.append(f"{directory}: leaves no image to train on")
        kind = SeenOverlaps if of_classes.sources else SeenClasses
        seen, seen_classes = Seen(), kind(text) if text else None
        read = functools.partial(_read, seen, seen_classes, options)
        items = {
            split: [base.Item(pair.files, functools.partial(read, split, pair)) for pair in members]
            for split, members in splits.items()
            if members
        }
        notes = {name: [pair.name for pair in members] for name, members in splits.items()}
        counts = {len(pair.masks) for part in pairs.values() for pair in part} - {1}
        counts = set[int]() if of_classes.sources else counts
        annotators = {"annotators": sorted(counts)} if counts else {}
        return base.Plan(
            items,
            tuple(problems),
            {"splits": notes, **annotators},
            said=folder_seen.lines(_required(directory), found),
            conclude=functools.partial(_conclude, seen, seen_classes),
        )


def _required(directory: Path | None) -> Path:
    if directory is None:
        raise UserError(f"config.data.dir is empty: {Folder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    return directory


def _read(
    seen: Seen,
    seen_classes: SeenClasses | SeenOverlaps | None,
    options: base.Options,
    split: str,
    pair: folder_pairs.Pair,
) -> Iterator[tuple[str, dict[str, Any]]]:
    image, note = bands.read(pair.image, options.get("channels", ()), options["limits"])
    seen.image(split, pair.image, note)
    shape, objects, classes = image.shape[:2], None, None
    if isinstance(seen_classes, SeenOverlaps):
        mask, classes = seen_classes.joined(_masks(seen, options, pair, shape)[0])
    elif seen_classes is not None:
        limits = options["limits"]
        classes, objects = folder_classes.read(pair, shape, limits, seen_classes)
        mask = (classes > 0).astype(np.uint8)
    if seen_classes is None or pair.classes is not None:
        mask, objects = _masks(seen, options, pair, shape)
    if classes is not None and pair.classes is not None:
        folder_classes.check_foreground(pair.classes, classes, mask[0])
        objects = folder_classes.regions(classes) if objects is None else objects
    size = pixel_size.micrometres(pixel_size.read(pair.image, options["limits"].page)) or 0.0
    found = base.record(image, mask, pair.name, objects=objects, classes=classes, pixel_size=size)
    yield pair.name, found


def _conclude(
    seen: Seen, seen_classes: SeenClasses | SeenOverlaps | None
) -> tuple[list[str], list[str]]:
    problems, lines = seen.conclude()
    if seen_classes is None:
        return problems, lines
    of_classes = seen_classes.conclude()
    return [*problems, *of_classes[0]], [*lines, *of_classes[1]]


def _masks(
    seen: Seen, options: base.Options, pair: folder_pairs.Pair, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the masks [A, H, W] of annotators, or classes, and the objects [H, W] of only one."""
    limits, foreground = options["limits"], options["foreground"]
    unions = np.zeros((len(pair.masks), *shape), np.uint8)
    objects = None
    of_classes = bool(parse(options.get("classes", "")).sources)
    for place, (union, files) in enumerate(zip(unions, pair.masks, strict=True), 1):
        for number, file in enumerate(files, 1):
            mask = mask_files.read_mask(file, limits, foreground, pair.image)
            owner = f"its image {pair.image.name}"
            reading.check_same_size(file, mask.pixels.shape, union.shape, owner)
            seen.mask(file, mask.kind, place * of_classes)
            if len(unions) == 1 and len(files) > 1:  # what two objects share is the first one's
                objects = np.zeros(union.shape, np.int32) if objects is None else objects
                objects[mask.pixels > union] = number
            elif len(unions) == 1:
                objects = mask.labels
            union |= mask.pixels
    return unions, objects
