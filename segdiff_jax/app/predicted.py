"""Predicts a picture once, and keeps what every later question about it needs.

A threshold, a view and a file are made of these arrays, without the network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segdiff_jax.certainty.evidence import Classes, Evidence, Interiors
from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.prediction.certainty_columns import CertaintyColumns
from segdiff_jax.prediction.output_maps import OutputMaps
from segdiff_jax.prediction.pipeline import LARGE

Report = Callable[[float], object]  # gets the share that is done, 0..1; may raise


@dataclass(frozen=True, eq=False)
class Predicted:
    """What was predicted of a picture.

    Attributes:
      image: [H, W, 3] uint8; or [H, W, C] of other channels.
      shown: [H, W] float32 in 0..1, the probability, which the threshold is of.
      probability, uncertainty: [H, W] uint16, as `OutputMaps` has them.
      interior: [H, W] uint16 likewise, by which objects are told apart; None: the network has none.
      evidence: what certainty is made of; None: the picture is too large for it.
      shares: [C, H, W] uint16 likewise, of the classes; None: the network learnt none.
      names: of the classes.
      by_distance: see `PredictedRows`.
      overlap: whether a pixel may belong to several classes.
    """

    image: np.ndarray
    shown: np.ndarray
    probability: np.ndarray
    uncertainty: np.ndarray
    interior: np.ndarray | None
    evidence: Evidence | None
    shares: np.ndarray | None = None
    names: tuple[str, ...] = ()
    by_distance: bool = False
    overlap: bool = False

    @property
    def samples(self) -> np.ndarray | None:
        """Whole masks that may be the true one, [S, H, W] bool; None: none were drawn."""
        return None if self.evidence is None else self.evidence.samples


def predict(model: Any, image: np.ndarray, report: Report) -> Predicted:
    """Predicts a picture as `segdiff predict` does one that is alone in its folder.

    Args:
      model: an `api.Model`.
      image: [H, W, 3] uint8; or [H, W, C] of other channels.
      report: is called after each row of tiles.

    Raises:
      UserError: it has to be predicted as a whole and is too large for it, or a number is not
        finite.
    """
    height, width = image.shape[:2]
    if model.predictor.whole and height * width > LARGE:
        raise UserError(f"its {height * width} pixels are more than {LARGE}, the most", BAD_DATA)
    certainty = CertaintyColumns(model.calibration, model.random, objects=True)
    shown, maps = np.zeros((height, width), np.float32), None
    names: tuple[str, ...] = ()
    for rows in model.bands([image]):
        if maps is None:
            names = () if rows.further is None else rows.further.channels.classes
            keep = ("shares",) if rows.interior is None else ("shares", "interior")
            kinds = {"random": model.random, "classes": len(names), "overlap": rows.overlap}
            maps = OutputMaps((height, width), model.threshold, keep=keep, **kinds)
        stop = rows.top + len(rows.probability)
        of_rows = shown[rows.top : stop]
        of_rows[:] = model.shown(rows.probability)
        more = rows.samples, rows.interior, rows.shown_shares(model.shown)
        maps.add(rows.top, rows.generations, of_rows, *more)
        certainty.add(rows, height * width)
        report(stop / height)
    assert maps is not None  # an image has rows
    found = certainty.found(0, image)
    of_maps = maps.probability, maps.uncertainty, maps.interior
    way = model.predictor.by_distance, maps.overlap
    return Predicted(image, shown, *of_maps, found, maps.shares, names, *way)


_MAPS = ("image", "shown", "probability", "uncertainty", "interior", "shares")
_FLAGS = "by_distance", "overlap"
# arrays of the parts of `Evidence`
_PARTS = {
    "evidence": ("probability", "passes", "samples", "decisions"),
    "interiors": ("probability", "passes", "decisions"),
    "classes": ("shares", "passes", "decisions"),
}


def size(found: Predicted) -> int:
    """Returns the bytes that `save` writes, but for some thousands."""
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
    of["names"] = tuple(map(str, arrays["names"]))
    of |= {name: bool(arrays[name]) for name in _FLAGS}
    parts: dict[str, dict[str, Any]] = {
        part: {name: arrays.get(f"{part}_{name}") for name in of_part}
        for part, of_part in _PARTS.items()
        if f"{part}_{of_part[0]}" in arrays
    }
    if "evidence" not in parts:
        return Predicted(**of, evidence=None)
    more: dict[str, Any] = {"image": arrays["image"], **parts["evidence"]}
    if "interiors" in parts:
        more["interiors"] = Interiors(**parts["interiors"])
    if "classes" in parts:
        more["classes"] = Classes(of["names"], **parts["classes"], overlap=of["overlap"])
    return Predicted(**of, evidence=Evidence(**more, by_distance=of["by_distance"]))


def _arrays(found: Predicted) -> dict[str, np.ndarray]:
    """Returns the arrays of a prediction by name, without those that are None."""
    arrays = {name: getattr(found, name) for name in _MAPS}
    evidence = found.evidence
    parts = [None] * 3 if evidence is None else [evidence, evidence.interiors, evidence.classes]
    for (part, names), of in zip(_PARTS.items(), parts, strict=True):
        if of is not None:
            arrays |= {f"{part}_{name}": getattr(of, name) for name in names}
    arrays["names"] = np.array(found.names, str)
    arrays |= {name: np.array(getattr(found, name)) for name in _FLAGS}
    return {name: array for name, array in arrays.items() if array is not None}
