"""Computes the columns of summary.csv that say how sure a prediction is."""

from dataclasses import dataclass, field

import numpy as np

from segdiff_jax.certainty.answers import answer
from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.certainty.evidence import evidence
from segdiff_jax.certainty.quality import LEVEL
from segdiff_jax.inference.predictor import PredictedRows, stacked

MAX_VALUES = 2**27  # of all maps of an image whose certainty is computed: 0.5 GB
Columns = tuple[float | str, ...]


@dataclass
class CertaintyColumns:
    """Collects the rows of images and answers for each, from predicted_dice on.

    Attributes:
      calibration: of the run; None: there are no columns.
      random: whether generations are samples of masks, see `averaging.uncertainty`.
    """

    calibration: Calibration | None
    random: bool
    parts: dict[int, list[PredictedRows]] = field(default_factory=dict)

    def add(self, rows: PredictedRows, pixels: int) -> None:
        """Keeps rows of an image of that many pixels, unless it is too large."""
        if self.calibration is None:
            return
        maps = len(rows.generations) + (0 if rows.soft is None else 3 * len(rows.soft))
        if maps * pixels <= MAX_VALUES:
            self.parts.setdefault(rows.image, []).append(rows)

    def columns(self, index: int, image: np.ndarray, mask: np.ndarray) -> Columns:
        """Returns the columns of an image [H, W, 3] and its mask [H, W]; () of one too large."""
        parts = self.parts.pop(index, None)
        if parts is None:
            return ()
        found = evidence(image, stacked(parts), self.random)
        known = answer(found, mask > 0, self.calibration)
        numbers = (*known.quality, *known.area[LEVEL], *known.count[LEVEL])
        return (*(round(float(value), 4) for value in numbers), ", ".join(known.unlike))
