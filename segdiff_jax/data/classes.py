"""Names exclusive classes, and decides to which of them each pixel of a foreground belongs.

A class map is [H, W] uint8: 0 is background, k = 1, 2, ... the k-th name. The foreground is the
union of all classes and is decided by itself; of its pixels each belongs to the class whose
channel has the highest value there. So the mask, and all that is made of it, does not depend on
how well the classes are told apart.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

BACKGROUND = "background"  # the name of values that belong to no class, beside 0
# of data sets whose classes are always the same
CITYSCAPES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
DISCS = ("plain", "striped")


class ClassValues(NamedTuple):
    """The classes of mask files.

    Attributes:
        names: of the classes, in the order of their numbers 1, 2, ...
        numbers: of each value that a file may hold the number of its class, or 0.
    """

    names: tuple[str, ...]
    numbers: Mapping[int, int]


def parse(text: str) -> ClassValues:
    """Reads "NAME=VALUE,NAME=VALUE+VALUE", a text that config.folder.classes allows; "": none.

    The value 0 is background unless it is given to a class.
    """
    parts = [part.partition("=") for part in text.split(",") if part]
    names = tuple(name for name, _, _ in parts if name != BACKGROUND)
    numbers = {0: 0}
    for name, _, values in parts:
        number = 0 if name == BACKGROUND else names.index(name) + 1
        numbers |= dict.fromkeys(map(int, values.split("+")), number)
    return ClassValues(names, numbers)


def shares(values: np.ndarray) -> np.ndarray:
    """Returns the values of C channels [C, ...] in 0..1 as shares of their sum, float32.

    They are the probabilities of the classes of a pixel if it is foreground; all the same where
    every channel is 0.
    """
    values = np.asarray(values, np.float32)
    total = values.sum(axis=0)
    positive = total > 0
    divisor = np.where(positive | np.isnan(total), total, 1)
    return np.where(positive | np.isnan(total), values / divisor, np.float32(1 / len(values)))


def decided(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the class map of a mask [..., H, W] and the values [C, ..., H, W] of the classes.

    Of equal values the first counts.
    """
    return np.where(mask, np.argmax(values, axis=0) + 1, 0).astype(np.uint8)


def of_objects(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the class of each object, [N] int64 from 1: that of the highest sum over its pixels.

    Args:
        labels: [H, W] of 0..N.
        values: [C, H, W] of the classes, at least 0.
    """
    count = int(labels.max(initial=0))
    flat = labels.ravel()
    sums = [np.bincount(flat, one.ravel(), count + 1)[1:] for one in values]
    return np.argmax(np.stack(sums), axis=0) + 1
