"""Names pictures that are unlike those of a calibration, for which nothing is promised."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segdiff_jax.certainty.evidence import Evidence

MARGIN = 0.25  # of the range of the pictures of the fit, by which it is widened on both sides


class Ranges(NamedTuple):
    """The ranges of statistics in the pictures of a fit: name -> (lowest, highest)."""

    ranges: dict[str, tuple[float, float]]
    n: int

    def unlike(self, statistics: dict[str, float]) -> list[str]:
        """Returns the names of the statistics of a picture that are out of their widened range."""
        found = []
        for name, (low, high) in self.ranges.items():
            margin = MARGIN * (high - low)
            if not low - margin <= statistics.get(name, np.nan) <= high + margin:
                found.append(name)
        return found


def statistics(found: Evidence, agreement: dict[str, float]) -> dict[str, float]:
    """Returns statistics of a picture: its brightness, contrast, colour and size, and agreement."""
    pixels = found.image.astype(np.float32)
    grey = pixels.mean(axis=-1)
    height, width = grey.shape
    steps = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1) if grey.shape[axis] > 1]
    of_image = {
        "brightness": grey.mean(),
        "contrast": grey.std(),
        "colour": pixels.std(axis=-1).mean(),
        "sharpness": np.mean(steps) / (grey.std() + 1) if steps else 0.0,
        "height": np.log2(height),
        "width": np.log2(width),
        "foreground": found.probability.mean(),
    }
    return {k: float(v) for k, v in of_image.items()} | {
        f"agreement of {name}": value for name, value in agreement.items()
    }


def fit(rows: Sequence[dict[str, float]]) -> Ranges | None:
    """Returns the ranges of statistics of pictures; None without any."""
    if not rows:
        return None
    return Ranges(
        {k: (min(row[k] for row in rows), max(row[k] for row in rows)) for k in rows[0]}, len(rows)
    )
