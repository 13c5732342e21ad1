"""Reads results from files alone: grids with their cells, and scored runs of main."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from segdiff_jax.checkpoint.run_config import read_config
from segdiff_jax.config import flatten
from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.experiments.args import DESCRIPTION
from segdiff_jax.experiments.grids import CellPaths
from segdiff_jax.experiments.results import RESULT, cell_state, read_json

PROGRAM = "python -m segdiff_jax.experiments.run"


class CellResult(NamedTuple):
    """The state and the result of a cell.

    Attributes:
      name: unique within its grid.
      overrides: values of config fields that differ from the grid's config.
      state: for people.
      result: the content of its result.json, or None if it is not done.
      measurement: the folder of its result.
    """

    name: str
    overrides: dict[str, Any]
    state: str
    result: dict[str, Any] | None
    measurement: Path


class Grid(NamedTuple):
    """The content of a directory that `experiments.run` made.

    Attributes:
      directory: of the grid.
      arguments: the command line of its last run.
      fields: of its config, by dotted name.
      cells: by grid and name.
    """

    directory: Path
    arguments: list[str]
    fields: dict[str, Any]
    cells: dict[str, dict[str, CellResult]]

    @property
    def data(self) -> str:
        """Name of its data set."""
        return data_name(self.fields)

    def command(self, grid: str) -> str:
        """Returns the command that runs one of its grids."""
        kept = [one for one in self.arguments if not one.lstrip("-").startswith("grid=")]
        return " ".join([PROGRAM, *kept, f"--grid={grid}"])

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
    """A scored run.

    Attributes:
      name: for people.
      fields: of its config, by dotted name.
      summary: of each score over its images, as in report.json.
      groups: mean scores by group of images, as in report.json.
      images: the number of scored images.
    """

    name: str
    fields: dict[str, Any]
    summary: dict[str, dict[str, float | None]]
    groups: dict[str, dict[str, float | None]]
    images: int


def read_grid(directory: Path) -> Grid:
    """Reads a grid.

    Raises:
      UserError: the directory holds none.
    """
    description = read_json(directory / DESCRIPTION)
    if description is None:
        raise UserError(
            f"{directory}: holds no grid: there is no {DESCRIPTION} in it; {PROGRAM} makes one",
            BAD_DATA,
        )
    cells: dict[str, dict[str, CellResult]] = {}
    for file in sorted((directory / "cells").glob("*/*.json"), key=_natural):
        cell = read_json(file)
        assert cell  # it was listed
        paths = CellPaths(directory / cell["run"], directory / cell["answer"])
        cells.setdefault(cell["grid"], {})[cell["name"]] = CellResult(
            cell["name"],
            cell["overrides"],
            cell_state(paths).message,
            read_json(paths.measurement / RESULT),
            paths.measurement,
        )
    return Grid(directory, description["command"], description["config"], cells)


def read_run(workdir: Path) -> Run:
    """Reads a run of `segdiff_jax.main`.

    Raises:
      UserError: the directory holds none, or it was not scored.
    """
    fields = flatten(read_config(workdir))
    report = read_json(workdir / "report" / "report.json")
    if report is None:
        raise UserError(
            f"{workdir}: was not scored: there is no report/report.json; "
            "python -m segdiff_jax.main --mode=evaluate makes one",
            BAD_DATA,
        )
    images = len(report["images"])
    return Run(str(workdir), fields, report["summary"], report["groups"], images)


def runs_of(grids: list[Grid], workdirs: list[Path]) -> list[Run]:
    """Returns the full method of each grid, where it is done, and the runs of main."""
    runs = []
    for grid in grids:
        cell = grid.done("conditioning").get("full")
        if cell and (result := cell.result):
            scores = result["summary"], result["groups"], result["images"]
            runs.append(Run(str(grid.directory), result["knobs"], *scores))
    return runs + [read_run(workdir) for workdir in workdirs]


def data_name(fields: dict[str, Any]) -> str:
    """Returns a name, for people, of the data set of a config."""
    name = fields["data.name"]
    if name == "folder":
        return f"folder {Path(fields['data.dir']).name}"
    classes = fields.get(f"{name}.classes")
    return f"{name} {'+'.join(classes)}" if classes else name


def _natural(path: Path) -> tuple[Any, ...]:
    """Returns a sort key that puts T25 before T100."""
    return path.parent.name, [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", path.stem)]
