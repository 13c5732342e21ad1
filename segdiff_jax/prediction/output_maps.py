"""Accumulates the output maps of an image from finished rows of its generations.

A generation of 10,000 x 10,000 pixels takes 400 MB in float32, and there are several. So rows are
converted to integers as they arrive, five bytes a pixel in all, and statistics are running sums.
"""

import math
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdiff_jax.errors import INTERNAL, UserError
from segdiff_jax.inference.averaging import uncertainty
from segdiff_jax.runtime.files import reporting_write_errors

UINT16_MAX = 65535
MAX_VALUES = 2**21  # of all generations that are processed together: bounds memory


class MapStatistics(NamedTuple):
    """Holds statistics of an image's prediction that need no ground truth.

    Attributes:
      foreground_share: of the pixels, in the final mask.
      mean_confidence: mean over pixels of max(p, 1 - p), 0.5..1.
      mean_uncertainty: mean over pixels of the uncertainty, 0..0.5.
      agreement: mean over generations of the Dice of a generation's own mask with the final one,
        0..1; two empty masks agree. Low where generations disagree; 1 if there is only one.
    """

    foreground_share: float
    mean_confidence: float
    mean_uncertainty: float
    agreement: float


class OutputMaps:
    """Holds the maps of one image, which are filled by rows from the top.

    Attributes:
      probability: [H, W] uint16, mean over generations; 65535 is 1. Halves are rounded
        down, so that above 32767 means above 0.5.
      uncertainty: [H, W] uint16, see `averaging.uncertainty`; 65535 is 0.5, the largest standard
        deviation of numbers in 0..1.
      mask: [H, W] uint8, 255 where the mean is above the threshold, else 0.
      generations: [S, H, W] uint16 like probability, in an unnamed temporary file; None if not
        kept.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        threshold: float,
        keep_in: Path | None = None,
        random: bool = True,
    ) -> None:
        """Allocates the maps of an image of shape (H, W); the threshold of its mask is in 0..1.

        `keep_in` is the folder for the temporary file of the generations; None: they are not kept.
        `random` is whether the masks are sampled, see `averaging.uncertainty`.
        """
        self.probability, self.uncertainty = np.zeros((2, *shape), np.uint16)
        self.mask = np.zeros(shape, np.uint8)
        self.generations: np.ndarray | None = None
        self._threshold, self._keep_in, self._random = threshold, keep_in, random
        self._rows = 0  # finished
        self._confidence = self._deviation = 0.0  # sums over pixels
        self._common = self._own = np.zeros(0)  # [S] pixels: in own and final mask; in own

    def add(self, top: int, generations: np.ndarray) -> None:
        """Adds the next rows.

        Args:
          top: index of the first.
          generations: [S, rows, W] float soft masks, about 0..1; they are clipped here.

        Raises:
          UserError: a value is not a finite number.
          ValueError: the rows are not the next ones.
        """
        count, rows, width = generations.shape
        if top != self._rows or top + rows > len(self.mask) or width != self.mask.shape[1]:
            added = f"{rows} rows of {width} from row {top}"
            raise ValueError(f"{added}, after {self._rows} rows of {self.mask.shape}")
        if self._rows == 0:
            self._common, self._own = np.zeros(count), np.zeros(count)
            if self._keep_in is not None:
                self.generations = _temporary((count, *self.mask.shape), self._keep_in)
        step = max(1, MAX_VALUES // (count * width))
        for first in range(0, rows, step):
            self._add(top + first, generations[:, first : first + step])
        self._rows = top + rows

    def _add(self, top: int, generations: np.ndarray) -> None:
        rows = slice(top, top + generations.shape[1])
        if not np.isfinite(generations).all():
            raise UserError(f"row {top}: the prediction is not a finite number", INTERNAL)
        soft = np.clip(generations, 0, 1)
        mean, deviation = soft.mean(axis=0), uncertainty(soft, self._random)
        final, own = mean > self._threshold, soft > self._threshold
        self.probability[rows], self.uncertainty[rows] = _integer(mean), _integer(2 * deviation)
        self.mask[rows] = final * np.uint8(255)
        if self.generations is not None:
            self.generations[:, rows] = _integer(soft)
        self._confidence += float(np.maximum(mean, 1 - mean).sum(dtype=np.float64))
        self._deviation += float(deviation.sum(dtype=np.float64))
        self._common = self._common + (own & final).sum(axis=(1, 2))
        self._own = self._own + own.sum(axis=(1, 2))

    def statistics(self) -> MapStatistics:
        """Returns the statistics of the finished image; ValueError if rows are missing."""
        if self._rows != len(self.mask):
            raise ValueError(f"{self._rows} of {len(self.mask)} rows")
        pixels, foreground = self.mask.size, int(np.count_nonzero(self.mask))
        both = self._own + foreground
        dice = np.where(both > 0, 2 * self._common / np.maximum(both, 1), 1)
        confidence, deviation = self._confidence / pixels, self._deviation / pixels
        return MapStatistics(foreground / pixels, confidence, deviation, float(dice.mean()))


def _integer(values: np.ndarray) -> np.ndarray:
    """Maps 0..1 to 0..65535, halves rounded down."""
    return np.ceil(values * UINT16_MAX - np.float32(0.5)).astype(np.uint16)


def _temporary(shape: tuple[int, ...], folder: Path) -> np.ndarray:
    """Returns an array of uint16 in an unnamed file: the system frees it, even after kill -9."""
    folder.mkdir(parents=True, exist_ok=True)
    with reporting_write_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # writing to a page without disk space kills
            os.posix_fallocate(file.fileno(), 0, 2 * math.prod(shape))
        return np.memmap(file, np.uint16, "w+", shape=shape)
