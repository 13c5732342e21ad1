"""Predicts a picture once, and keeps what every later question about it needs.

A threshold, a view and a file are made of these arrays, without the network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segdiff_jax.certainty.evidence import Evidence, Interiors
from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.prediction.certainty_columns import CertaintyColumns
from segdiff_jax.prediction.output_maps import OutputMaps
from segdiff_jax.prediction.pipeline import LARGE

Report = Callable[[float], object]  # is told the share that is done, 0..1, and may raise


@dataclass(frozen=True, eq=False)
class Predicted:
    """What was predicted of a picture.

    Attributes:
      image: [H, W, 3] uint8.
      shown: [H, W] float32 in 0..1, the probability, which the threshold is of.
      probability, uncertainty: [H, W] uint16, as `OutputMaps` has them.
      interior: [H, W] uint16 likewise, by which objects are told apart; None: the network has none.
      evidence: what certainty is made of; None: the picture is too large for it.
    """

    image: np.ndarray
    shown: np.ndarray
    probability: np.ndarray
    uncertainty: np.ndarray
    interior: np.ndarray | None
    evidence: Evidence | None

    @property
    def samples(self) -> np.ndarray | None:
        """Whole masks that may be the true one, [S, H, W] bool; None: none were drawn."""
        return None if self.evidence is None else self.evidence.samples


def predict(model: Any, image: np.ndarray, report: Report) -> Predicted:
    """Predicts a picture as `segdiff predict` does one that is alone in its folder.

    Args:
      model: an `api.Model`.
      image: [H, W, 3] uint8.
      report: is told after each row of tiles.

    Raises:
      UserError: it has to be predicted as a whole and is too large for it, or a number is not
        finite.
    """
    height, width = image.shape[:2]
    if model.predictor.whole and height * width > LARGE:
        raise UserError(f"its {height * width} pixels are more than {LARGE}, the most", BAD_DATA)
    certainty = CertaintyColumns(model.calibration, model.random, objects=True)
    shown, maps = np.zeros((height, width), np.float32), None
    for rows in model.bands([image]):
        keep = () if rows.interior is None else ("interior",)
        maps = maps or OutputMaps((height, width), model.threshold, keep=keep, random=model.random)
        stop = rows.top + len(rows.probability)
        shown[rows.top : stop] = model.shown(rows.probability)
        maps.add(rows.top, rows.generations, shown[rows.top : stop], rows.samples, rows.interior)
        certainty.add(rows, height * width)
        report(stop / height)
    assert maps is not None  # an image has rows
    found = certainty.found(0, image)
    return Predicted(image, shown, maps.probability, maps.uncertainty, maps.interior, found)


_MAPS = ("image", "shown", "probability", "uncertainty", "interior")
_OF_EVIDENCE = ("probability", "passes", "samples", "decisions")
_OF_INTERIORS = ("probability", "passes", "decisions")


def size(found: Predicted) -> int:
    """Returns the bytes that `save` writes, but for some hundreds."""
    return sum(array.nbytes for array in _arrays(found).values())


def save(found: Predicted, path: Path) -> None:
    """Writes arrays without compression, which would take longer than a second pass."""
    arrays: dict[str, Any] = _arrays(found)
    with path.open("wb") as file:
        np.savez(file, **arrays)


def load(path: Path) -> Predicted:
    """Reads what `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    of: dict[str, Any] = {name: arrays.get(name) for name in _MAPS}
    if "evidence_probability" not in arrays:
        return Predicted(**of, evidence=None)
    parts: list[dict[str, Any]] = [
        {name: arrays.get(f"{whole}_{name}") for name in names}
        for whole, names in (("evidence", _OF_EVIDENCE), ("interiors", _OF_INTERIORS))
    ]
    interiors = Interiors(**parts[1]) if "interiors_probability" in arrays else None
    evidence = Evidence(image=arrays["image"], **parts[0], interiors=interiors)
    return Predicted(**of, evidence=evidence)


def _arrays(found: Predicted) -> dict[str, np.ndarray]:
    """Returns the arrays of a prediction by name, without those that are None."""
    arrays = {name: getattr(found, name) for name in _MAPS}
    if (evidence := found.evidence) is not None:
        arrays |= {f"evidence_{name}": getattr(evidence, name) for name in _OF_EVIDENCE}
        if (interiors := evidence.interiors) is not None:
            arrays |= {f"interiors_{name}": getattr(interiors, name) for name in _OF_INTERIORS}
    return {name: array for name, array in arrays.items() if array is not None}
