"""Makes the tables of the page: pictures, worst first, and objects, those to look at first."""

import math
from collections.abc import Iterable, Sequence

from segdiff_jax.app.answers import Line, sureness
from segdiff_jax.prediction.object_table import DOUBTFUL, Row

PICTURES = ("#", "picture", "Dice", "80 %", "objects", "note")
OBJECTS = ("#", "sure", "what", "area", "x", "y", "probability", "agreement")
MOST_OBJECTS = 500  # lines of the table of the page; objects.csv has all
Cell = str | int
Listed = tuple[int, str, Line | None]  # number and name of a picture, what is said of it


def worst_first(lines: Iterable[Listed]) -> list[Listed]:
    """Orders pictures (number, name, line): the lowest Dice first, those without a line last."""
    return sorted(lines, key=lambda one: (one[2] is None, one[2].dice if one[2] else 0, one[0]))


def pictures(lines: Iterable[Listed], threshold: float, notes: dict[int, str]) -> list[list[Cell]]:
    """Returns the cells of `PICTURES` of each picture (number, name, line), worst first.

    Args:
      lines: of the pictures; None: it is not predicted yet.
      threshold: what a line says of another one is left out, as it is about to change.
      notes: what else there is to say, by number.
    """
    rows = []
    for number, name, line in worst_first(lines):
        note = notes.get(number, "")
        if line is None or line.threshold != threshold:
            rows.append([number, name, "...", "", "", note])
            continue
        strange = f"unlike the calibration: {', '.join(line.unlike)}" if line.unlike else ""
        note = "; ".join(filter(None, [note, strange]))
        dice = f"{line.dice:.3f}" if line.calibrated else f"{line.dice:.3f} *"
        rows.append([number, name, dice, _interval(line), _count(line), note])
    return rows


def objects(rows: Sequence[Row]) -> list[list[Cell]]:
    """Returns the cells of `OBJECTS` of the first `MOST_OBJECTS` objects."""
    return [
        [
            *(row.label, f"{sureness(row):.2f}"),
            "maybe missed" if row.status == DOUBTFUL else row.class_ or "object",
            *(row.area, round(row.centroid_x), round(row.centroid_y)),
            *(_number(row.probability), _number(row.agreement)),
        ]
        for row in rows[:MOST_OBJECTS]
    ]


def summary(name: str, line: Line, count: int) -> str:
    """Returns what is said under a picture, in one line."""
    kind = "predicted Dice" if line.calibrated else "expected Dice (not calibrated)"
    parts = [f"{name}: {kind} {line.dice:.3f}"]
    if interval := _interval(line):
        parts[0] += f" (80 %: {interval})"
    parts.append(f"{_count(line)} objects")
    parts.append(f"{100 * line.share:.1f} % foreground")
    if count:
        parts.append(f"{count} alternatives")
    if line.unlike:
        parts.append(f"unlike the pictures of the calibration in {', '.join(line.unlike)}")
    return ", ".join(parts)


def _interval(line: Line) -> str:
    return "" if math.isnan(line.low) else f"{line.low:.2f} to {line.high:.2f}"


def _count(line: Line) -> str:
    if math.isnan(line.objects_low):
        return str(line.objects)
    low, high = (max(0, round(value)) for value in (line.objects_low, line.objects_high))
    return f"{line.objects} ({low} to {high})"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
