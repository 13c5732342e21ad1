"""Collects what is known of an image besides its maps: columns of summary.csv, and its objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from segdiff_jax.certainty import answers, of_classes
from segdiff_jax.certainty.answers import Objects
from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.certainty.evidence import Evidence, evidence
from segdiff_jax.certainty.of_classes import OfClass
from segdiff_jax.certainty.quality import LEVEL
from segdiff_jax.inference.predictor import PredictedRows, stacked

MAX_VALUES = 2**27  # of all maps of an image whose certainty is computed: 0.5 GB
WORK = 8  # values that the labels and the sums of a pixel take besides, at most
Columns = tuple[float | str, ...]


class Known(NamedTuple):
    """What is known of an image.

    Attributes:
      columns: of summary.csv from predicted_dice on; () if nothing is.
      objects: of the mask; None: not asked for, or the maps are too large to be held together.
      classes: area and number of objects by class; {} if nothing is.
    """

    columns: Columns = ()
    objects: Objects | None = None
    classes: Mapping[str, OfClass] = {}


@dataclass
class CertaintyColumns:
    """Collects the rows of images and answers for each.

    Attributes:
      calibration: of the run; None: there are no columns.
      random: whether generations are samples of masks, see `averaging.uncertainty`.
      objects: whether objects are asked for, or shown.
    """

    calibration: Calibration | None
    random: bool
    objects: bool = False
    parts: dict[int, list[PredictedRows]] = field(default_factory=dict)

    def add(self, rows: PredictedRows, pixels: int) -> None:
        """Keeps rows of an image of that many pixels, unless it is too large."""
        if self.calibration is None and not self.objects:
            return
        drawn = 0 if rows.soft is None else len(rows.soft)
        maps = len(rows.generations) + 3 * drawn
        if rows.further is not None and (classes := len(rows.further.channels.classes)):
            maps += classes * (1 + len(rows.generations) + drawn)
        if (maps + WORK) * pixels <= MAX_VALUES:
            self.parts.setdefault(rows.image, []).append(rows)

    def found(self, index: int, image: np.ndarray) -> Evidence | None:
        """Returns what the rows of an image [H, W, 3] say; None: they were not kept."""
        parts = self.parts.pop(index, None)
        return None if parts is None else evidence(image, stacked(parts), self.random)

    def known(
        self,
        index: int,
        image: np.ndarray,
        mask: np.ndarray,
        holds: bool = True,
        each: np.ndarray | None = None,
    ) -> Known:
        """Returns what is known of an image.

        Args:
          index: of the image.
          image: [H, W, 3].
          mask: [H, W].
          holds: whether the calibration does, of an image at the scale of the training.
          each: masks [C, H, W] of classes that overlap; None: there are none.
        """
        if (found := self.found(index, image)) is None:
            return Known()
        fitted = self.calibration if holds else None
        of_objects = mask > 0 if each is None else each
        objects = answers.objects(found, of_objects, fitted) if self.objects else None
        if fitted is None:
            return Known((), objects)
        of = answers.answer(found, mask > 0, fitted)
        numbers = (*of.quality, *of.area[LEVEL], *of.count[LEVEL])
        columns = (*(round(float(value), 4) for value in numbers), ", ".join(of.unlike))
        return Known(columns, objects, of_classes.intervals(found, fitted.classes))
