"""Reads and writes the files of a cell, which show its state. Needs no jax."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from segdiff_jax.experiments.grids import CellPaths
from segdiff_jax.runtime import files, lock

RESULT, TRAINED, FAILED = "result.json", "trained.json", "failed.json"


class CellState(NamedTuple):
    """The state of a cell, and for people which process works on it or what went wrong."""

    name: Literal["done", "failed", "running", "open"]  # open: neither finished nor worked on
    message: str


def cell_state(paths: CellPaths) -> CellState:
    """Returns the state of the cell with these directories."""
    if (paths.measurement / RESULT).exists():
        return CellState("done", "done")
    for directory in paths:
        if (failure := read_json(directory / FAILED)) is not None:
            return CellState("failed", f"failed: {failure['line']}")
    for directory in (paths.run_lock, paths.measurement_lock):
        if owner := lock.owner(directory):
            return CellState("running", f"running on {owner}")
    trained = (paths.run / TRAINED).exists()
    return CellState("open", "trained, not measured" if trained else "not run")


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns the content of a JSON file, or None if there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def write_stamped(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file with the time of writing; raises UserError if it cannot be written."""
    files.write_json(path, {**content, "written": time.strftime("%Y-%m-%d %H:%M:%S")})
