"""Accumulates the output maps of an image from finished rows of its prediction.

A generation of 10,000 x 10,000 pixels takes 400 MB in float32, and there are several. So rows are
converted to integers as they arrive, five bytes a pixel in all, and statistics are running sums.
"""

import math
import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdiff_jax.data.classes import decided, decided_each, pack
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
      agreement: mean over samples of the Dice of a sample with the final mask, 0..1; without
        samples, over generations of the Dice of a generation's own mask; two empty masks agree. Low
        where they disagree; 1 if there is only one generation. See `OutputMaps` for "expected".
      samples: how many were drawn.
    """

    foreground_share: float
    mean_confidence: float
    mean_uncertainty: float
    agreement: float
    samples: int


class OutputMaps:
    """Holds the maps of one image, which are filled by rows from the top.

    Attributes:
      probability: [H, W] uint16; 65535 is 1. Halves are rounded down, so that above 32767 means
        above 0.5.
      uncertainty: [H, W] uint16, see `averaging.uncertainty`; 65535 is 0.5, the largest standard
        deviation of numbers in 0..1.
      mask: [H, W] uint8, 255 where the probability is above the threshold, else 0.
      generations: [G, H, W] uint16 like probability, in an unnamed temporary file; None if not
        kept.
      samples: [S, H, W] uint8 of 0 and 255, likewise.
      interior: [H, W] uint16 like probability, of objects, see `data.channels`; None: not kept.
      classes: [H, W] uint8, if they overlap uint16, the class map of the mask, see `data.classes`;
        None: not kept.
      shares: [C, H, W] uint16 like probability, of the classes; None: not kept.
      overlap: whether classes do.
      inner, outer: [H, W] uint8 like mask, of the risk that was asked for; None: of none.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        threshold: float,
        keep_in: Path | None = None,
        keep: Collection[str] = (),
        random: bool = True,
        expected: bool = False,
        bounds: tuple[float, float] | None = None,
        classes: int = 0,
        overlap: bool = False,
    ) -> None:
        """Allocates the maps of an image of shape (H, W); the threshold of its mask is in 0..1.

        Args:
          shape: (H, W).
          threshold: of the probability, in 0..1.
          keep_in: folder of temporary files.
          keep: what is kept there: "generations", "samples"; and in memory "interior", "shares".
          random: whether generations are samples of masks, see `averaging.uncertainty`.
          expected: whether the agreement of a single generation p, without samples, is the Dice of
            its mask that is expected if p is right, see `sample_scores.soft_dice_confidence`.
          bounds: thresholds of the inner and the outer mask; None: there are none.
          classes: how many there are.
          overlap: whether they do.
        """
        self.probability, self.uncertainty = np.zeros((2, *shape), np.uint16)
        self.mask = np.zeros(shape, np.uint8)
        self.generations: np.ndarray | None = None
        self.samples: np.ndarray | None = None
        self.interior = np.zeros(shape, np.uint16) if "interior" in keep else None
        self.classes = np.zeros(shape, np.uint16 if overlap else np.uint8) if classes else None
        of_shares = classes and "shares" in keep
        self.shares = np.zeros((classes, *shape), np.uint16) if of_shares else None
        self.inner, self.outer = (np.zeros(shape, np.uint8) if bounds else None for _ in range(2))
        self.overlap, self._random, self._expected = overlap, random, expected
        self._threshold, self._bounds, self._keep_in, self._keep = threshold, bounds, keep_in, keep
        self._rows = self._samples = 0  # finished; of each pixel
        self._confidence = self._deviation = 0.0  # sums over pixels
        self._common = self._own = np.zeros(0)  # [G] or [S] pixels: in own and final mask; in own

    def add(
        self,
        top: int,
        generations: np.ndarray,
        probability: np.ndarray,
        samples: np.ndarray | None = None,
        interior: np.ndarray | None = None,
        shares: np.ndarray | None = None,
    ) -> None:
        """Adds the next rows.

        Args:
          top: index of the first.
          generations: [G, rows, W] float soft masks, about 0..1; they are clipped here.
          probability: [rows, W] float in 0..1.
          samples: [S, rows, W] uint8 of 0 and 1; None: there are none.
          interior: [rows, W] float in 0..1, likewise.
          shares: [C, rows, W] float in 0..1, likewise.

        Raises:
          UserError: a value is not a finite number.
          ValueError: the rows are not the next ones.
        """
        count, rows, width = generations.shape
        if top != self._rows or top + rows > len(self.mask) or width != self.mask.shape[1]:
            added = f"{rows} rows of {width} from row {top}"
            raise ValueError(f"{added}, after {self._rows} rows of {self.mask.shape}")
        if self._rows == 0:
            self._begin(count, 0 if samples is None else len(samples))
        step = max(1, MAX_VALUES // ((count + self._samples) * width))
        for first in range(0, rows, step):
            part = slice(first, first + step)
            drawn = None if samples is None else samples[:, part]
            self._add(top + first, generations[:, part], probability[part], drawn)
        self._keep_further(slice(top, top + rows), interior, shares)
        self._rows = top + rows

    def _keep_further(
        self, rows: slice, interior: np.ndarray | None, shares: np.ndarray | None
    ) -> None:
        """Keeps further channels of rows whose mask is there."""
        if self.interior is not None and interior is not None:
            self.interior[rows] = _integer(interior)
        if self.classes is not None and shares is not None:
            mask = self.mask[rows] > 0
            each = decided_each(mask, shares, self._threshold) if self.overlap else ()
            self.classes[rows] = pack([*each]) if self.overlap else decided(mask, shares)
        if self.shares is not None and shares is not None:
            self.shares[:, rows] = _integer(shares)

    def _begin(self, generations: int, samples: int) -> None:
        self._samples = samples
        self._common, self._own = np.zeros((2, samples or generations))
        if self._keep_in is None:
            return
        if "generations" in self._keep:
            shape = generations, *self.mask.shape
            self.generations = _temporary(shape, np.dtype(np.uint16), self._keep_in)
        if "samples" in self._keep and samples:
            shape = samples, *self.mask.shape
            self.samples = _temporary(shape, np.dtype(np.uint8), self._keep_in)

    def _add(
        self,
        top: int,
        generations: np.ndarray,
        probability: np.ndarray,
        samples: np.ndarray | None,
    ) -> None:
        rows = slice(top, top + generations.shape[1])
        if not (np.isfinite(generations).all() and np.isfinite(probability).all()):
            raise UserError(f"row {top}: the prediction is not a finite number", INTERNAL)
        soft = np.clip(generations, 0, 1)
        deviation, final = uncertainty(soft, self._random), probability > self._threshold
        self.probability[rows] = _integer(probability)
        self.uncertainty[rows] = _integer(2 * deviation)
        self.mask[rows] = final * np.uint8(255)
        if self._bounds and self.inner is not None and self.outer is not None:
            for bound, of_risk in zip(self._bounds, (self.inner, self.outer), strict=True):
                of_risk[rows] = (probability > bound) * np.uint8(255)
        if self.generations is not None:
            self.generations[:, rows] = _integer(soft)
        if self.samples is not None and samples is not None:
            self.samples[:, rows] = samples * np.uint8(255)
        self._confidence += float(np.maximum(probability, 1 - probability).sum(dtype=np.float64))
        self._deviation += float(deviation.sum(dtype=np.float64))
        if samples is not None:
            own = samples > 0
        elif self._expected and len(soft) == 1:
            own = soft  # the Dice of expected areas
        else:
            own = soft > self._threshold
        self._common = self._common + (own * final).sum(axis=(1, 2), dtype=np.float64)
        self._own = self._own + own.sum(axis=(1, 2), dtype=np.float64)

    def statistics(self) -> MapStatistics:
        """Returns the statistics of the finished image; ValueError if rows are missing."""
        if self._rows != len(self.mask):
            raise ValueError(f"{self._rows} of {len(self.mask)} rows")
        pixels, foreground = self.mask.size, int(np.count_nonzero(self.mask))
        both = self._own + foreground
        dice = np.where(both > 0, 2 * self._common / np.maximum(both, 1), 1)
        confidence, deviation = self._confidence / pixels, self._deviation / pixels
        share, agreement = foreground / pixels, float(dice.mean())
        return MapStatistics(share, confidence, deviation, agreement, self._samples)


def _integer(values: np.ndarray) -> np.ndarray:
    """Maps 0..1 to 0..65535, halves rounded down."""
    return np.ceil(values * UINT16_MAX - np.float32(0.5)).astype(np.uint16)


def _temporary(shape: tuple[int, ...], dtype: np.dtype, folder: Path) -> np.ndarray:
    """Returns an array in an unnamed file: the system frees it, even after kill -9."""
    folder.mkdir(parents=True, exist_ok=True)
    with reporting_write_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # writing to a page without disk space kills
            os.posix_fallocate(file.fileno(), 0, dtype.itemsize * math.prod(shape))
        return np.memmap(file, dtype, "w+", shape=shape)
