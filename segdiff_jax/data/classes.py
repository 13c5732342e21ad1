"""Names classes, and decides to which of them each pixel of a foreground belongs.

A class map is [H, W] uint8: 0 is background, k = 1, 2, ... the k-th name. The foreground is the
union of all classes and is decided by itself; of its pixels each belongs to the class whose
channel has the highest value there. So the mask, and all that is made of it, does not depend on
how well the classes are told apart.

Of classes that overlap a map is [H, W] unsigned integers with class k as bit k - 1, as of
`pack`: a pixel may belong to several. Each class is decided by itself, and the foreground
is their union.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

MOST = 16  # channels that a mask can hold
BACKGROUND = "background"  # the name of values that belong to no class, beside 0
# of data sets whose classes are always the same
CITYSCAPES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
DISCS = ("plain", "striped")


class ClassValues(NamedTuple):
    """The classes of mask files.

    Attributes:
        names: of the classes, in the order of their numbers 1, 2, ...
        numbers: of each value that a file may hold the number of its class, or 0.
        sources: of classes that overlap, where the masks of each are: the name of a folder, or the
            end of the names of its files; (): the classes are exclusive.
        optional: those sources that have no file for an image without the class.
    """

    names: tuple[str, ...]
    numbers: Mapping[int, int]
    sources: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()


NO_CLASSES = ClassValues((), {})


def parse(text: str) -> ClassValues:
    """Reads "NAME=VALUE,NAME=VALUE+VALUE" or "NAME=FOLDER,NAME=FOLDER?"; "": no classes.

    The text is one that config.folder.classes allows. The value 0 is background unless it is given
    to a class.
    """
    parts = [part.partition("=") for part in text.split(",") if part]
    if parts and not set(parts[0][2]) <= set("0123456789+"):
        sources = [value.removesuffix("?") for _, _, value in parts]
        optional = {value[:-1] for _, _, value in parts if value.endswith("?")}
        names = tuple(name for name, _, _ in parts)
        return ClassValues(names, {}, tuple(sources), frozenset(optional))
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


def decided_each(mask: np.ndarray, values: np.ndarray, threshold: float) -> np.ndarray:
    """Returns the masks [C, H, W] bool of classes that overlap, whose union is the mask [H, W].

    Args:
        mask: where the highest value is above the threshold.
        values: [C, H, W] of the classes.
        threshold: above which a pixel belongs to a class. Where rounding leaves a pixel of the mask
            without one it has that of the highest value.
    """
    found = (values > threshold) & mask
    if (lone := mask & ~found.any(axis=0)).any():
        place = np.nonzero(lone)
        found[(np.argmax(values[:, *place], axis=0), *place)] = True
    return found


def pack(channels: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the mask [H, W] with channel k as bit k; uint8, of more than 8 channels uint16."""
    assert 1 <= len(channels) <= MOST, len(channels)
    dtype = np.uint8 if len(channels) <= 8 else np.uint16
    mask = np.zeros(channels[0].shape, dtype)
    for k, channel in enumerate(channels):
        mask |= np.asarray(channel, bool).astype(dtype) << dtype(k)
    return mask


def member(classes: np.ndarray, k: int, overlap: bool) -> np.ndarray:
    """Marks the pixels [..., H, W] of the k-th class, from 1, of class maps; bool."""
    return (classes >> (k - 1)) & 1 > 0 if overlap else classes == k


def members(classes: np.ndarray, count: int) -> np.ndarray:
    """Returns the masks [C, ..., H, W] bool of C classes that overlap."""
    return np.stack([member(classes, k, True) for k in range(1, count + 1)])


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
