"""Writes names of files into cells of CSV that no spreadsheet and no terminal acts upon.

A cell that begins with = + - or @ is a formula to a spreadsheet. Such a name is written after an
apostrophe, control characters and backslashes are escaped; `name_of_cell` is the inverse.
"""

import re

from segdiff_jax.errors import printable

FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BYTES = re.compile("([\udc80-\udcff]+)")  # of a name that is no text; they are written as they are
_ESCAPED = re.compile(r"\\(?:(\\)|x([0-9a-f]{2})|u([0-9a-f]{4})|([tnr]))")
_SHORT = {"t": "\t", "n": "\n", "r": "\r"}


def cell_of_name(name: str) -> str:
    """Returns the cell of a name."""
    parts = _BYTES.split(name.replace("\\", "\\\\"))
    cell = "".join(part if i % 2 else printable(part) for i, part in enumerate(parts))
    return f"'{cell}" if cell.lstrip("'").startswith(FORMULA) else cell


def name_of_cell(cell: str) -> str:
    """Returns the name that `cell_of_name` made a cell of."""
    if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA):
        cell = cell[1:]
    return _ESCAPED.sub(_character, cell)


def _character(match: re.Match[str]) -> str:
    backslash, two, four, short = match.groups()
    return backslash or _SHORT.get(short) or chr(int(two or four, 16))
