"""Joins the masks of classes that overlap: each class has files of its own.

images/X.png, masks_organ/X.png, masks_lesion/X.png    organ=masks_organ,lesion=masks_lesion
images/X.png, masks/X_organ.png, masks/X_lesion.png    organ=_organ,lesion=_lesion
X.png, X_organ.png, X_lesion.png                       likewise

In place of a file there may be a folder of one file an object. An image needs a mask of every
class, as a file that is lost is not to become an image without the class; a ? behind the folder, or
the end, says that an image without a mask has none of that class.
"""

import numpy as np

from segdiff_jax.data.classes import pack, parse
from segdiff_jax.data.datasets import folder_pairs
from segdiff_jax.data.image_io.class_masks import FIELD

_MISSING = "its mask is missing; it must be "


class SeenOverlaps:
    """Joins the masks of images, and counts what they hold.

    Args:
        text: config.folder.classes.
    """

    def __init__(self, text: str) -> None:
        self._names, self._text, self._count = parse(text).names, text, 0
        self._masks, self._pixels = np.zeros((2, len(self._names)), np.int64)
        self._total = self._several = 0

    def joined(self, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the foreground and the class map of an image, [H, W], of the masks [C, H, W]."""
        pixels = np.count_nonzero(masks, axis=(1, 2))
        self._count += 1
        self._pixels += pixels
        self._masks += pixels > 0
        self._total += masks[0].size
        self._several += np.count_nonzero(masks.sum(axis=0) > 1)
        return masks.max(axis=0), pack([*masks])

    def conclude(self) -> tuple[list[str], list[str]]:
        """Returns a problem for a class that no mask holds, and a line about the classes."""
        if not self._count:
            return [], []
        rows = list(zip(self._names, self._masks.tolist(), self._pixels.tolist(), strict=True))
        problems = [
            f"{FIELD}={self._text}: no mask of {name} marks a pixel" for name, n, _ in rows if not n
        ]
        listed = "; ".join(
            f"{name} in {n} of {self._count} images, {pixels / self._total:.2%}"
            for name, n, pixels in rows
        )
        several = f"{self._several / self._total:.2%} belong to several"
        return problems, [f"classes that overlap, of all pixels: {listed}; {several}"]


def explained(line: str) -> str:
    """Returns a problem of pairing with what config.folder.classes has to do with it."""
    way = f"without a ? behind its class in {FIELD} it must be "
    line = line.replace(_MISSING, f"its mask is missing; {way}", 1)
    return line.replace(folder_pairs.SUFFIX, FIELD)
