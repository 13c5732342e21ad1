"""Reads the classes of a folder's masks: from the masks' own values, or from files beside them.

masks/X.png                     its values are classes; each region of one class is an object
masks/X/*.png                   one file an object, whose value is the class
masks/X.png and classes/X.png   the masks' labels are the objects, the other file the classes

The values are those of `data.classes.parse`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from segdiff_jax.data.classes import ClassValues, parse
from segdiff_jax.data.datasets import folder_pairs
from segdiff_jax.data.datasets.folder_pairs import Found, Pair
from segdiff_jax.data.image_io import class_masks, reading
from segdiff_jax.data.image_io.class_masks import FIELD
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import bad_data

FOLDER = "classes"


class SeenClasses:
    """Counts what masks hold, to tell what none of them does.

    Args:
        text: config.folder.classes.
    """

    def __init__(self, text: str) -> None:
        self.values, self._text = parse(text), text
        self._present: set[int] = set()
        self._masks, self._pixels = Counter[int](), Counter[int]()
        self._count = 0

    def add(self, classes: np.ndarray, present: Iterable[int]) -> None:
        """Notes the class map [H, W] of an image, and the values of its files."""
        self._count += 1
        self._present.update(present)
        for number, pixels in enumerate(np.bincount(classes.ravel()).tolist()):
            self._pixels[number] += pixels
            self._masks[number] += pixels > 0

    def conclude(self) -> tuple[list[str], list[str]]:
        """Returns a problem for a value that no mask holds, and a line about the classes."""
        names, numbers = self.values[:2]
        if not self._count:
            return [], []
        held = ", ".join(map(str, sorted(self._present)))
        missing = [v for v, number in numbers.items() if number and v not in self._present]
        problems = [
            f"{FIELD}={self._text}: no mask holds the value {value} of "
            f"{names[numbers[value] - 1]}; the masks hold {held}"
            for value in missing
        ]
        total = max(sum(self._pixels.values()), 1)
        listed = "; ".join(
            f"{name} in {self._masks[k]} of {self._count} masks, {self._pixels[k] / total:.2%}"
            for k, name in enumerate(names, 1)
        )
        return problems, [f"classes, of all pixels: {listed}"]


def with_files(found: Mapping[str, Found]) -> None:
    """Adds the files in folders `classes/` beside those of images to the pairs, in place.

    An image without one where the folder is there becomes a problem, and so do masks of several
    annotators.
    """
    for part in found.values():
        pairs, part.pairs[:] = [*part.pairs], []
        for pair in pairs:
            folder = pair.image.parent.parent / FOLDER
            if len(pair.masks) > 1:
                several = f"{pair.image}: has masks of {len(pair.masks)} annotators"
                part.problems.append(f"{several}; allowed is one with {FIELD}")
            elif not folder.is_dir():
                part.pairs.append(pair)
            elif len(files := _of_image(folder, pair)) == 1:
                part.pairs.append(pair._replace(classes=files[0]))
            else:
                what = f"has {len(files)} files of its classes in {folder}; allowed is one"
                part.problems.append(f"{pair.image}: {what}, of the name {pair.name}")


def _of_image(folder: Path, pair: Pair) -> list[Path]:
    stems = {pair.name, folder_pairs.name_of(pair.image)}
    return [file for file in reading.list_images(folder) if folder_pairs.name_of(file) in stems]


def read(
    pair: Pair, shape: tuple[int, ...], limits: Limits, seen: SeenClasses
) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads the classes of an image of shape (H, W), and its objects if the masks tell them.

    Returns:
        The class map [H, W] uint8, and labels [H, W] int32; None: a file of classes alone.

    Raises:
        UserError: a file cannot be read, or is of another size.
    """
    values = seen.values
    if pair.classes is not None:
        own = _read(pair.classes, pair.image, shape, values, limits)
        seen.add(own.classes, own.present)
        return own.classes, None
    classes, labels = np.zeros(shape, np.uint8), np.zeros(shape, np.int32)
    present: set[int] = set()
    for number, file in enumerate(pair.masks[0], 1):
        own = _read(file, pair.image, shape, values, limits)
        present.update(own.present)
        added = (own.classes > 0) & (classes == 0)  # what two objects share is the first one's
        classes[added], labels[added] = own.classes[added], number
    seen.add(classes, present)
    return classes, labels if len(pair.masks[0]) > 1 else regions(classes)


def _read(
    file: Path, image: Path, shape: tuple[int, ...], values: ClassValues, limits: Limits
) -> class_masks.ClassMask:
    own = class_masks.read(file, values.numbers, limits, image)
    reading.check_same_size(file, own.classes.shape, shape, f"its image {image.name}")
    return own


def regions(classes: np.ndarray) -> np.ndarray:
    """Labels the 4-connected regions of one class of a class map [H, W] by 1, 2, ..., int32."""
    from skimage.measure import label  # slow to import

    return np.asarray(label(classes, background=0, connectivity=1), np.int32)


def check_foreground(file: Path, classes: np.ndarray, mask: np.ndarray) -> None:
    """Raises UserError unless a class map has a class where the mask [H, W] is foreground only."""
    if count := int(np.count_nonzero((classes > 0) != (mask > 0))):
        what = f"at {count} of {mask.size} pixels it has a class and the mask none, or the reverse"
        raise bad_data(file, f"{what}; allowed is a class for each pixel of the mask")
