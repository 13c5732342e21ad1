"""A table, and the three forms in which it is written."""

import csv
import io
from collections.abc import Iterable
from html import escape
from typing import NamedTuple


class Table(NamedTuple):
    """A table, as text.

    Attributes:
      name: of its files.
      title: what it shows.
      header: of each column.
      rows: cells, as many as the header has.
      notes: what the numbers mean, and what has not been run.
    """

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def markdown(table: Table) -> str:
    """The table for a text that people read."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

    rule = line("-" * max(len(cell), 3) for cell in table.header)
    lines = [line(table.header), rule, *map(line, table.rows)]
    notes = [f"* {note}" for note in table.notes]
    return "\n".join([f"# {table.title}", "", *lines, "", *notes, ""])


def comma_separated(table: Table) -> str:
    """The table for a programme: header and rows."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.header, *table.rows])
    return text.getvalue()


def html(table: Table) -> str:
    """The table as a part of a page."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "\n".join(
        f'<tr class="{"ours" if "ours" in "".join(row[:2]) else ""}">'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in table.rows
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f"<h2>{escape(table.title)}</h2><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}"
        f'</tbody></table><ul class="small">{notes}</ul>'
    )
