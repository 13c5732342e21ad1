"""Writes a table as Markdown and CSV."""

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple


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
    csv.writer(text, lineterminator="\n").writerows([table.header, *table.rows])
    return text.getvalue()
