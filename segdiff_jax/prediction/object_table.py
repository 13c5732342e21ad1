"""Reads and writes objects.csv of an output folder, a line for each object.

The lines of a picture are appended together, after its other files but those of its labels: where
these are, the lines are complete.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segdiff_jax.errors import UserError
from segdiff_jax.prediction import csv_files
from segdiff_jax.prediction.csv_cells import cell_of_name, name_of_cell
from segdiff_jax.runtime.files import write_bytes

TABLE = "objects.csv"
OBJECT, DOUBTFUL = "object", "doubtful"  # of the column status


class Row(NamedTuple):
    """Holds the columns of objects.csv for one object; what is not known is empty.

    Attributes:
      picture: name of the file, as in summary.csv.
      label: value of its pixels in labels/; those of doubtful objects follow, and are not there.
      status: "object", or "doubtful": in some samples only, see `certainty.doubtful`.
      class_: name of its class; the column is called class.
      area: pixels.
      centroid_x, centroid_y: pixels from the left and the upper edge of the picture; the centre of
        the first pixel is at 0.5.
      left, top, width, height: bounding box, pixels.
      perimeter: pixels, holes included, see `outlines.perimeter`.
      probability: mean over its pixels of probability/.
      agreement: share of the samples that hold it, see `certainty.objects.Objects`.
      area_std: standard deviation of its area between these, pixels.
      confidence: probability that a true object has an IoU of at least 1/2 with it.
      unit: of what follows: um, or that of the map; empty if the file does not say.
      unit_area, unit_perimeter: in this unit; empty in degrees.
      unit_x, unit_y: of the centroid, coordinates of the map where there is one.
    """

    picture: str
    label: int
    status: str
    class_: str
    area: int
    centroid_x: float
    centroid_y: float
    left: int
    top: int
    width: int
    height: int
    perimeter: float
    probability: float
    agreement: float = math.nan
    area_std: float = math.nan
    confidence: float = math.nan
    unit: str = ""
    unit_area: float = math.nan
    unit_perimeter: float = math.nan
    unit_x: float = math.nan
    unit_y: float = math.nan


COLUMNS = tuple({"class_": "class"}.get(name, name) for name in Row._fields)


class ObjectTable:
    """Keeps objects.csv; entering its `with` block writes the lines that are kept."""

    def __init__(self, output: Path, fresh: bool = False) -> None:
        """Reads the existing lines, unless `fresh`; an incomplete last one is dropped.

        Raises:
          UserError: the file was written by something else.
        """
        self.path = output / TABLE
        lines = [] if fresh or not self.path.exists() else _read(self.path)
        self.lines: dict[str, list[Sequence[Any]]] = {}  # by name of the picture
        for line in lines:
            self.lines.setdefault(name_of_cell(line[0]), []).append(line)

    def keep(self, names: Collection[str]) -> None:
        """Writes the table with the lines of these pictures alone; the others are written again."""
        self.lines = {name: lines for name, lines in self.lines.items() if name in names}
        kept = [line for lines in self.lines.values() for line in lines]
        write_bytes(self.path, csv_files.encode([COLUMNS, *map(_cells, kept)]))

    def add(self, name: str, rows: Iterable[Row]) -> None:
        """Appends the lines of a picture that has none."""
        self.lines[name] = [row._replace(picture=cell_of_name(name)) for row in rows]
        csv_files.append(self.path, map(_cells, self.lines[name]))


def _cells(row: Sequence[Any]) -> list[Any]:
    """Returns the cells of a row: numbers with 12 digits at most, nan as nothing."""
    return [("" if math.isnan(x) else f"{x:.12g}") if isinstance(x, float) else x for x in row]


def _read(path: Path) -> list[list[str]]:
    header, *lines = csv_files.read(path) or [[]]
    if tuple(header) != COLUMNS or any(len(line) != len(header) for line in lines):
        raise UserError(
            f"{path}: is not in the format this program writes: choose another --output, or remove "
            "it to predict all images again"
        )
    return lines
