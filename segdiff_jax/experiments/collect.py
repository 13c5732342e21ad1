"""What was done, read from files alone: grids with their cells, and ordinary runs."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from segdiff_jax.checkpoint.run_config import read_config
from segdiff_jax.config import flatten
from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.experiments.args import DESCRIPTION
from segdiff_jax.experiments.results import RESULT, look, read

PROGRAMME = "python -m segdiff_jax.experiments.run"


class Done(NamedTuple):
    """A cell as it was found.

    Attributes:
      name: within its grid.
      overrides: what is set for it.
      state: in words.
      result: what was measured, or None.
      answer: its folder.
    """

    name: str
    overrides: dict[str, Any]
    state: str
    result: dict[str, Any] | None
    answer: Path


class Grid(NamedTuple):
    """A directory that `experiments.run` made.

    Attributes:
      directory: of the grid.
      words: the command line it was last run with.
      knobs: of its config.
      cells: by grid and name.
    """

    directory: Path
    words: list[str]
    knobs: dict[str, Any]
    cells: dict[str, dict[str, Done]]

    @property
    def data(self) -> str:
        """The name of its data set."""
        return data_name(self.knobs)

    def command(self, grid: str) -> str:
        """Returns the command that runs one of its grids."""
        words = [word for word in self.words if not word.lstrip("-").startswith("grid=")]
        return " ".join([PROGRAMME, *words, f"--grid={grid}"])

    def done(self, grid: str) -> dict[str, Done]:
        """Returns the cells of a grid that are done."""
        return {name: cell for name, cell in self.cells.get(grid, {}).items() if cell.result}

    def missing(self, grid: str) -> list[str]:
        """Returns a line for each cell of a grid that is not done, or one for all."""
        if grid not in self.cells:
            return [f"{self.data}: not run: {self.command(grid)}"]
        left = [cell for cell in self.cells[grid].values() if not cell.result]
        lines = [f"{self.data}: {grid}/{cell.name}: {cell.state}" for cell in left]
        return [*lines, f"to go on: {self.command(grid)}"] if lines else []


class Run(NamedTuple):
    """A scored run.

    Attributes:
      name: what to call it.
      knobs: of its config.
      summary: of each score over its images, as in report.json.
      groups: mean scores by group of images, as in report.json.
      images: how many were scored.
    """

    name: str
    knobs: dict[str, Any]
    summary: dict[str, dict[str, float | None]]
    groups: dict[str, dict[str, float | None]]
    images: int


def read_grid(directory: Path) -> Grid:
    """Reads a grid.

    Raises:
      UserError: the directory holds none.
    """
    description = read(directory / DESCRIPTION)
    if description is None:
        raise UserError(
            f"{directory}: holds no grid: there is no {DESCRIPTION} in it; {PROGRAMME} makes one",
            BAD_DATA,
        )
    cells: dict[str, dict[str, Done]] = {}
    for file in sorted((directory / "cells").glob("*/*.json"), key=_natural):
        cell = read(file)
        assert cell  # it was listed
        answer = directory / cell["answer"]
        state = look(directory / cell["run"], answer).line
        done = Done(cell["name"], cell["overrides"], state, read(answer / RESULT), answer)
        cells.setdefault(cell["grid"], {})[cell["name"]] = done
    return Grid(directory, description["command"], description["config"], cells)


def read_run(workdir: Path) -> Run:
    """Reads a run of `segdiff_jax.main`.

    Raises:
      UserError: the directory holds none, or it was not scored.
    """
    knobs = flatten(read_config(workdir))
    report = read(workdir / "report" / "report.json")
    if report is None:
        raise UserError(
            f"{workdir}: was not scored: there is no report/report.json; "
            "python -m segdiff_jax.main --mode=evaluate makes one",
            BAD_DATA,
        )
    images = len(report["images"])
    return Run(str(workdir), knobs, report["summary"], report["groups"], images)


def runs_of(grids: list[Grid], workdirs: list[Path]) -> list[Run]:
    """Returns the full method of every grid that is done, and the other runs."""
    found = []
    for grid in grids:
        if cell := grid.done("conditioning").get("full"):
            result = cell.result
            assert result
            summary, groups = result["summary"], result["groups"]
            found.append(
                Run(str(grid.directory), result["knobs"], summary, groups, result["images"])
            )
    return found + [read_run(workdir) for workdir in workdirs]


def data_name(knobs: dict[str, Any]) -> str:
    """Returns what to call the data set of a config."""
    name = knobs["data.name"]
    if name == "folder":
        return f"folder {Path(knobs['data.dir']).name}"
    return f"{name} {'+'.join(knobs['cityscapes.classes'])}" if name == "cityscapes" else name


def _natural(path: Path) -> tuple[Any, ...]:
    """T25 before T100."""
    return path.parent.name, [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", path.stem)]
