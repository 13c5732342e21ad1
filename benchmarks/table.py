"""Writes results as a text table and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.timing import Row
from segdiff_jax.errors import CANNOT_WRITE, UserError

HEAD = ("", "median", "lowest .. highest", "repeats", "bar")


class Section(NamedTuple):
    """The rows of one part of the benchmark, and the load of the machine around it.

    Attributes:
      name: of the part.
      rows: the results.
      load_before, load_after: load averages over 1, 5 and 15 minutes; () if not known.
      notes: on how to read the rows.
    """

    name: str
    rows: Sequence[Row]
    load_before: tuple[float, ...]
    load_after: tuple[float, ...]
    notes: Sequence[str] = ()


def number(value: float) -> str:
    """Returns three significant digits, without an exponent: 0.0123, 1.23, 123, 12345."""
    if value == 0:
        return "0"
    digits = max(0, 3 - len(str(int(abs(value))))) if abs(value) >= 1 else 3
    text = f"{value:.{digits}f}"
    return text if float(text) else f"{value:.1e}"


def cells(row: Row) -> tuple[str, ...]:
    """Returns the cells of a row as text."""
    sample = row.sample
    repeats = len(sample.values)
    spread = f"{number(sample.low)} .. {number(sample.high)}" if repeats > 1 else ""
    bar = ""
    if row.bar is not None:
        sign, verdict = (">=" if row.least else "<="), ("met" if row.met else "MISSED")
        bar = f"{sign} {number(row.bar)} {verdict}"
    return row.name, f"{number(sample.median)} {row.unit}", spread, str(repeats), bar


def text(section: Section) -> str:
    """Returns a section as lines of aligned columns."""
    lines = [HEAD, *map(cells, section.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    loads = " -> ".join(
        " ".join(f"{value:.2f}" for value in load) or "?"
        for load in (section.load_before, section.load_after)
    )
    aligned = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    return "\n".join(
        [f"{section.name} (load {loads})", *(line.rstrip() for line in aligned), *section.notes]
    )


def as_json(machine: dict[str, Any], sections: Sequence[Section]) -> dict[str, Any]:
    """Returns all results with every repeat."""
    return {
        "machine": machine,
        "sections": [
            {
                "name": section.name,
                "load_before": section.load_before,
                "load_after": section.load_after,
                "notes": list(section.notes),
                "rows": [_row(row) for row in section.rows],
            }
            for section in sections
        ],
    }


def _row(row: Row) -> dict[str, Any]:
    sample = row.sample
    return {
        "name": row.name,
        "unit": row.unit,
        "median": sample.median,
        "low": sample.low,
        "high": sample.high,
        "repeats": len(sample.values),
        "values": sample.values,
        "bar": row.bar,
        "least": row.least,
        "met": row.met,
    }


def write(path: Path, machine: dict[str, Any], sections: Sequence[Section]) -> None:
    """Writes the JSON file atomically.

    Raises:
      UserError: it cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(json.dumps(as_json(machine, sections), indent=2) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"--out={path}: {error.strerror}", CANNOT_WRITE) from error
