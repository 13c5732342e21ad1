"""Reads results from files alone: grids with their cells, and scored runs of main."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segdiff_jax.checkpoint.run_config import read_config
from segdiff_jax.config import flatten
from segdiff_jax.errors import bad_data
from segdiff_jax.experiments.args import DESCRIPTION
from segdiff_jax.experiments.grids import CellPaths
from segdiff_jax.experiments.results import RESULT, cell_state, read_json

PROGRAM = "python -m segdiff_jax.experiments.run"


class CellResult(NamedTuple):
    """The state of a cell, for people, and the content of its result.json, empty if not done."""

    name: str
    overrides: dict[str, Any]
    state: str
    result: dict[str, Any]
    measurement: Path  # the folder of the result


class Grid(NamedTuple):
    """The content of a directory that `experiments.run` made."""

    directory: Path
    arguments: list[str]  # the command line of its last run
    fields: dict[str, Any]  # of its config, by dotted name
    cells: dict[str, dict[str, CellResult]]  # by grid and name

    @property
    def data(self) -> str:
        """The name of its data set."""
        return data_name(self.fields)

    def command(self, grid: str) -> str:
        """Returns the command that runs one of its grids."""
        others = [part for part in self.arguments if not part.lstrip("-").startswith("grid=")]
        return " ".join([PROGRAM, *others, f"--grid={grid}"])

    def done(self, grid: str) -> dict[str, CellResult]:
        """Returns the cells of a grid that are done."""
        return {name: cell for name, cell in self.cells.get(grid, {}).items() if cell.result}

    def missing(self, grid: str) -> list[str]:
        """Returns a line for each cell of a grid that is not done, or one for all."""
        if grid not in self.cells:
            return [f"{self.data}: not run: {self.command(grid)}"]
        left = [cell for cell in self.cells[grid].values() if not cell.result]
        lines = [f"{self.data}: {grid}/{cell.name}: {cell.state}" for cell in left]
        return [*lines, f"to continue: {self.command(grid)}"] if lines else []


class Run(NamedTuple):
    """A scored run; `summary` and `groups` are those of report.json."""

    name: str  # for people
    fields: dict[str, Any]  # of its config, by dotted name
    summary: dict[str, dict[str, float | None]]
    groups: dict[str, dict[str, float | None]]
    images: int  # number of them


def read_grid(directory: Path) -> Grid:
    """Reads a grid; raises UserError if the directory holds none."""
    description = read_json(directory / DESCRIPTION)
    if description is None:
        message = f"holds no grid: there is no {DESCRIPTION} in it; {PROGRAM} makes one"
        raise bad_data(directory, message)
    cells: dict[str, dict[str, CellResult]] = {}
    for file in sorted((directory / "cells").glob("*/*.json"), key=_natural):
        cell = json.loads(file.read_text())
        paths = CellPaths(directory / cell["run"], directory / cell["answer"])
        result = read_json(paths.measurement / RESULT) or {}
        one = CellResult(
            cell["name"], cell["overrides"], cell_state(paths).message, result, paths.measurement
        )
        cells.setdefault(cell["grid"], {})[one.name] = one
    return Grid(directory, description["command"], description["config"], cells)


def read_run(workdir: Path) -> Run:
    """Reads a run of `segdiff_jax.main`; raises UserError if there is none, or no report of it."""
    fields = flatten(read_config(workdir))
    report = read_json(workdir / "report" / "report.json")
    if report is None:
        message = (
            "was not scored: there is no report/report.json; "
            "python -m segdiff_jax.main --mode=evaluate makes one"
        )
        raise bad_data(workdir, message)
    return Run(str(workdir), fields, report["summary"], report["groups"], len(report["images"]))


def runs_of(grids: Sequence[Grid], workdirs: Sequence[Path]) -> list[Run]:
    """Returns the full method of each grid, where it is done, and the runs of main."""
    keys = ("knobs", "summary", "groups", "images")
    full = [
        Run(str(grid.directory), *(cell.result[key] for key in keys))
        for grid in grids
        if (cell := grid.done("conditioning").get("full"))
    ]
    return full + [read_run(workdir) for workdir in workdirs]


def data_name(fields: dict[str, Any]) -> str:
    """Returns a name, for people, of the data set of a config."""
    name = fields["data.name"]
    if name == "folder":
        return f"folder {Path(fields['data.dir']).name}"
    return f"{name} {'+'.join(fields['cityscapes.classes'])}" if name == "cityscapes" else name


def _natural(path: Path) -> tuple[Any, ...]:
    """Returns a sort key that puts T25 before T100."""
    return path.parent.name, [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", path.stem)]
