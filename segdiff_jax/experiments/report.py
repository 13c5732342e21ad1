"""Writes the paper's tables and figures from what a grid has done, and says what is missing.

  python -m segdiff_jax.experiments.report --dir=DIR

  --dir=DIR,DIR              directories of `segdiff_jax.experiments.run`, one for each data set
  --runs=DIR,DIR             work directories of `segdiff_jax.main` that were scored; Tables 1 to 3
                             also take the full method of each grid
  --output=DIR               where it goes; report/ in the first directory of the grids if not given
  --help                     this text

Makes report.html with everything in it; tables/ as Markdown and CSV; figures/ as PNG and PDF. Only
files are read: no JAX device is needed, and a grid may still be running. What has not been run is
named, with the command that runs it, and no figure is drawn of it.

Exit codes: 0 done; 64 bad command line; 65 a directory holds no grid or no scored run; 74 cannot
write.
"""

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from segdiff_jax.cli import app, options
from segdiff_jax.errors import UserError
from segdiff_jax.evaluation import charts, html_page
from segdiff_jax.experiments import figures, plots, table_formats, tables
from segdiff_jax.experiments.collect import Grid, read_grid, runs_of
from segdiff_jax.runtime.files import atomic_write

NAMES = ("dir", "runs", "output")


class Command(NamedTuple):
    """What the user asked for; paths as given."""

    directories: list[Path]
    runs: list[Path]
    output: Path


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code; mistakes of the user's take one line.

    Args:
      arguments: the words after the name of the programme.
    """
    return app.run(_main, arguments, __doc__, "draw fewer grids at once")


def _main(arguments: list[str]) -> None:
    command = parse(arguments)
    grids = [read_grid(directory) for directory in command.directories]
    print(write(grids, command.runs, command.output))


def parse(arguments: list[str]) -> Command:
    """Reads a command line.

    Raises:
      UserError: anything that is misspelt or not there.
    """
    values = options.read_flags(dict.fromkeys(NAMES, ""), arguments)
    directories, runs = (_paths(name, values[name]) for name in ("dir", "runs"))
    if not directories and not runs:
        raise UserError("--dir is missing: must be directories of segdiff_jax.experiments.run")
    if not directories and not values["output"]:
        raise UserError("--output is missing: must be a directory, as there is no --dir")
    output = values["output"]
    output = options.local_path("output", output) if output else directories[0] / "report"
    return Command(directories, runs, output)


def _paths(name: str, text: str) -> list[Path]:
    found = [options.local_path(name, part) for part in text.split(",") if part]
    for path in found:
        if not path.is_dir():
            raise UserError(f"--{name}={path}: must be a directory that exists")
    return found


def write(grids: Sequence[Grid], runs: Sequence[Path], output: Path) -> Path:
    """Writes tables, figures and the page; returns the path of the page.

    Raises:
      UserError: a run was not scored, or something cannot be written.
    """
    made = tables.every(grids, runs_of(list(grids), list(runs)))
    for table in made:
        for suffix, text in (
            ("md", table_formats.markdown),
            ("csv", table_formats.comma_separated),
        ):
            _write(output / "tables" / f"{table.name}.{suffix}", text(table).encode())
    parts = [table_formats.html(table) for table in made]
    for drawn in figures.every(grids):
        parts.append(_figure(drawn, output / "figures"))
    path = output / "report.html"
    _write(path, _page(grids, parts).encode())
    return path


def _figure(drawn: plots.Drawn, folder: Path) -> str:
    """Writes a figure and returns its part of the page; an old one of the name goes away."""
    title = f"Figure {drawn.name.removeprefix('figure')}"
    missing = "".join(f"<li>{escape(line)}</li>" for line in drawn.missing)
    notes = f'<ul class="small">{missing}</ul>'
    files = {suffix: folder / f"{drawn.name}.{suffix}" for suffix in ("png", "pdf")}
    if drawn.figure is None:
        for file in files.values():
            file.unlink(missing_ok=True)
        why = "Not drawn: nothing of it has been run."
        return f"<h2>{title}</h2><p>{escape(drawn.caption)}</p><p><b>{why}</b></p>{notes}"
    for suffix, file in files.items():
        _write(file, rendered(drawn, suffix))
    url = charts.embed(files["png"])
    return (
        f'<h2>{title}</h2><figure><img src="{url}" alt="{title}">'
        f"<figcaption>{escape(drawn.caption)}</figcaption></figure>{notes}"
    )


def rendered(drawn: plots.Drawn, suffix: str) -> bytes:
    """Returns a figure as the bytes of a PNG or PDF file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    assert drawn.figure is not None
    file = io.BytesIO()
    if suffix == "pdf":  # no date, so that the same results give the same file
        FigureCanvasPdf(drawn.figure).print_pdf(file, metadata={"CreationDate": None})
    else:
        FigureCanvasAgg(drawn.figure).print_png(file)
    return file.getvalue()


def _page(grids: Sequence[Grid], parts: Sequence[str]) -> str:
    lines = []
    for grid in grids:
        cells = [cell for group in grid.cells.values() for cell in group.values()]
        done = sum(cell.result is not None for cell in cells)
        lines.append(
            f"<li>{escape(grid.data)}: {done} of {len(cells)} cells done, in "
            f"{escape(str(grid.directory))}</li>"
        )
    head = (
        f'<meta charset="utf-8"><title>Tables and figures</title><style>{html_page.STYLE}\n'
        "li { overflow-wrap: anywhere }</style>"
    )
    body = "\n".join(["<h1>Tables and figures</h1><ul>", *lines, "</ul>", *parts])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    app.start(main)
