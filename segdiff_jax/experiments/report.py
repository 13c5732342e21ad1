"""Writes the paper's tables and figures from the results of grids, and lists what is missing.

  python -m segdiff_jax.experiments.report --dir=DIR

  --dir=DIR,DIR              directories of `segdiff_jax.experiments.run`, one for each data set
  --runs=DIR,DIR             work directories of `segdiff_jax.main` that were scored; Tables 1 to 3
                             also take the full method of each grid
  --output=DIR               of the report; default: report/ in the first directory of --dir
  --help                     this text

Writes report.html, which contains everything; tables/ as Markdown and CSV; figures/ as PNG and PDF.
It reads files only: no JAX device is needed, and a grid may still be running. Cells that have not
been run are listed with the command that runs them; a figure without results is not drawn.

Exit codes: 0 done; 64 bad command line; 65 a directory holds no grid or no scored run; 74 cannot
write.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from segdiff_jax.cli import app, options
from segdiff_jax.errors import UserError
from segdiff_jax.evaluation import charts, html_page
from segdiff_jax.experiments import figures, plots, table_formats, tables
from segdiff_jax.experiments.collect import Grid, read_grid, runs_of
from segdiff_jax.runtime import files, own_files

NAMES = ("dir", "runs", "output")


def main(argv: list[str]) -> int:
    """Runs the arguments after the name of the program and returns the exit code."""
    return app.run(_main, argv, __doc__, "draw fewer grids at once")


def _main(argv: list[str]) -> None:
    values = options.read_flags(dict.fromkeys(NAMES, ""), argv)
    directories, runs = (_paths(name, values[name]) for name in ("dir", "runs"))
    if not directories and not runs:
        raise UserError("--dir is missing: must be directories of segdiff_jax.experiments.run")
    if not directories and not values["output"]:
        raise UserError("--output is missing: must be a directory, as there is no --dir")
    output = values["output"]
    output = options.local_path("output", output) if output else directories[0] / "report"
    own_files.check_whole(output)
    print(write([read_grid(directory) for directory in directories], runs, output))


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
    scored = runs_of(grids, runs)
    filled = tables.every(grids, scored)
    for table in filled:
        path = output / "tables" / table.name
        files.write_bytes(path.with_suffix(".md"), table_formats.markdown(table).encode())
        files.write_bytes(path.with_suffix(".csv"), table_formats.comma_separated(table).encode())
    folder = output / "figures"
    drawn = [(one, _write_figure(one, folder)) for one in figures.every(grids, scored)]
    page = html_page.render_template(
        "experiments/report.html.j2",
        title="Tables and figures",
        progress=[_progress(grid) for grid in grids],
        tables=filled,
        figures=drawn,
    )
    files.write_bytes(output / "report.html", page.encode())
    return output / "report.html"


def _write_figure(drawn: plots.Drawn, folder: Path) -> str | None:
    """Writes a figure and returns its data URL; removes old files of a figure not drawn."""
    png, pdf = (folder / f"{drawn.name}.{suffix}" for suffix in ("png", "pdf"))
    if drawn.figure is None:
        png.unlink(missing_ok=True)
        pdf.unlink(missing_ok=True)
        return None
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    files.write_bytes(png, charts.render_png(drawn.figure))
    file = io.BytesIO()  # without a date: equal results give equal files
    FigureCanvasPdf(drawn.figure).print_pdf(file, metadata={"CreationDate": None})
    files.write_bytes(pdf, file.getvalue())
    return charts.embed(png)


def _progress(grid: Grid) -> str:
    cells = [cell for group in grid.cells.values() for cell in group.values()]
    done = sum(bool(cell.result) for cell in cells)
    return f"{grid.data}: {done} of {len(cells)} cells done, in {grid.directory}"


if __name__ == "__main__":
    app.start(main)
