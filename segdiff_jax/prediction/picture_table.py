"""Keeps a CSV file of an output folder with any number of lines for each picture.

The lines of a picture are appended together. A subclass names the file and its columns, of which
the first is the name of the picture.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from segdiff_jax.errors import UserError
from segdiff_jax.prediction import csv_files
from segdiff_jax.prediction.csv_cells import cell_of_name, name_of_cell
from segdiff_jax.runtime.files import write_bytes


class PictureTable:
    """Keeps lines by picture; those that are there are written again by `keep` alone."""

    NAME: ClassVar[str]
    COLUMNS: ClassVar[tuple[str, ...]]

    def __init__(self, output: Path, fresh: bool = False) -> None:
        """Reads the existing lines, unless `fresh`; an incomplete last one is dropped.

        Raises:
          UserError: the file was written by something else.
        """
        self.path = output / self.NAME
        lines = [] if fresh or not self.path.exists() else self._read()
        self.lines: dict[str, list[Sequence[Any]]] = {}  # by name of the picture
        for line in lines:
            self.lines.setdefault(name_of_cell(line[0]), []).append(line)

    def keep(self, names: Collection[str]) -> None:
        """Writes the table with the lines of these pictures alone; the others are written again."""
        self.lines = {name: lines for name, lines in self.lines.items() if name in names}
        kept = [line for lines in self.lines.values() for line in lines]
        write_bytes(self.path, csv_files.encode([self.COLUMNS, *map(_cells, kept)]))

    def add(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """Appends the lines of a picture that has none; in each its name is first."""
        self.lines[name] = [(cell_of_name(name), *row[1:]) for row in rows]
        csv_files.append(self.path, map(_cells, self.lines[name]))

    def _read(self) -> list[list[str]]:
        header, *lines = csv_files.read(self.path) or [[]]
        if tuple(header) != self.COLUMNS or any(len(line) != len(header) for line in lines):
            raise UserError(
                f"{self.path}: is not in the format this program writes: choose another --output, "
                "or remove it to predict all images again"
            )
        return lines


def _cells(row: Sequence[Any]) -> list[Any]:
    """Returns the cells of a row: numbers with 12 digits at most, nan as nothing."""
    return [("" if math.isnan(x) else f"{x:.12g}") if isinstance(x, float) else x for x in row]
