"""Writes a table as Markdown and CSV."""

import csv
import io
import re
from collections.abc import Iterable
from typing import NamedTuple

from segdiff_jax.errors import printable
from segdiff_jax.prediction.csv_cells import FORMULA


class Table(NamedTuple):
    """Holds the text of a table; `notes` has the meaning of the numbers, and what is not run."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def markdown(table: Table) -> str:
    """Returns the table as Markdown, its notes included."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

    rule = line("-" * max(len(cell), 3) for cell in table.header)
    lines = [line(table.header), rule, *map(line, table.rows)]
    notes = [f"* {note}" for note in table.notes]
    return "\n".join([f"# {table.title}", "", *lines, "", *notes, ""])


def comma_separated(table: Table) -> str:
    """Returns the table as CSV: header and rows."""
    text = io.StringIO()
    rows = [[_cell(cell) for cell in row] for row in (table.header, *table.rows)]
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _cell(text: str) -> str:
    """Returns a text without control characters that no spreadsheet takes for a formula."""
    number = re.fullmatch(r"[+-]?[\d.,e%+\- ]*", text)
    return printable(text if number or not text.startswith(FORMULA) else f"'{text}")
