"""Writes the parts of the page as HTML; whatever comes from a file is escaped."""

from collections.abc import Sequence
from typing import Any

from segdiff_jax.app import tables
from segdiff_jax.app.answers import Answered, look_first
from segdiff_jax.app.exports import ALL, KINDS
from segdiff_jax.app.layers import COLOURS
from segdiff_jax.app.session import Entry, Session
from segdiff_jax.app.tables import Cell
from segdiff_jax.data.image_io.reading import SUFFIXES
from segdiff_jax.errors import UserError
from segdiff_jax.evaluation.html_page import render_template

LABELS = {
    "labels": "labels (TIFF)",
    "csv": "objects (CSV)",
    "geojson": "outlines (GeoJSON)",
    "rois": "ROIs (ImageJ)",
}
PARTS = ("pictures", "viewer", "objects", "problems")  # that `parts` returns


def drop(session: Session, most_of_file: int) -> str:
    """Returns the place where pictures are dropped."""
    values = {"token": session.token, "most": most_of_file, "suffixes": ",".join(SUFFIXES)}
    return render_template("app/drop.html.j2", **values)


def status(text: str = "", busy: bool = True) -> str:
    """Returns the line that says what is being done."""
    return render_template("app/status.html.j2", text=text, busy=busy and bool(text))


def parts(session: Session) -> dict[str, str]:
    """Returns what changes with a session, by name of `PARTS`."""
    answered, entry = None, session.entries.get(session.shown)
    if entry is not None:
        try:
            answered = session.answered(entry.number)
        except UserError as error:
            session.add_problem(f"{entry.name}: {error}")
    return {
        "pictures": pictures(session),
        "viewer": viewer(session, entry, answered),
        "objects": objects(session, answered),
        "problems": problems(session.problems),
    }


def pictures(session: Session) -> str:
    """Returns the list of pictures, worst first."""
    notes = {one.number: one.values for one in [*session.entries.values()] if one.values}
    rows = tables.pictures(session.lines(), session.threshold, notes)
    more = {"shown": session.shown, "starred": any(str(row[2]).endswith("*") for row in rows)}
    rows, heads = _without_empty_end(rows, tables.PICTURES)
    return render_template("app/pictures.html.j2", heads=heads, rows=rows, **more)


def viewer(session: Session, entry: Entry | None, answered: Answered | None) -> str:
    """Returns the picture that is shown with its layers, what is said of it, and its files."""
    if entry is None or answered is None:
        return render_template("app/viewer.html.j2", entry=None)
    seen, alternative = session.seen(), min(session.alternative, entry.drawn)
    at = f"{session.token}/{entry.number}"
    of_window = f"?v={entry.version}.{'.'.join(map(str, seen))}"
    of_mask = f"{of_window}.{session.threshold}.{entry.drawn}.{alternative}"
    values: dict[str, Any] = {
        "layers": {name: f"layers/{at}/{name}{of_window}" for name in ("picture", *COLOURS)},
        "outlines": f"layers/{at}/outlines{of_mask}",
        "width": seen.width,
        "height": seen.height,
        "part": session.window is not None,
        "chosen": session.chosen,
        "alternative": alternative,
        "thumbnails": [
            f"layers/{at}/alternative-{k}{of_window}" for k in range(1, entry.drawn + 1)
        ],
        "summary": tables.summary(entry.name, answered.line, entry.drawn),
        "files": {label: f"files/{at}/{kind}" for kind, label in LABELS.items()},
        "all": f"files/{session.token}/{ALL}" if len(session.entries) > 1 else "",
    }
    assert LABELS.keys() == KINDS.keys()
    return render_template("app/viewer.html.j2", entry=entry, **values)


def objects(session: Session, answered: Answered | None) -> str:
    """Returns the table of the objects of the picture that is shown, those to look at first."""
    found = [] if answered is None else look_first(answered.objects)
    left_out = max(0, len(found) - tables.MOST_OBJECTS)
    rows, heads = _without_empty_end(tables.objects(found), tables.OBJECTS)
    more = {"left_out": left_out, "any": answered is not None, "chosen": session.chosen}
    return render_template("app/objects.html.j2", heads=heads, rows=rows, **more)


def _without_empty_end(rows: list[list[Cell]], heads: Sequence[str]) -> tuple[Any, Any]:
    """Returns cells and heads without the last column, if it is empty."""
    if any(row[-1] for row in rows):
        return rows, heads
    return [row[:-1] for row in rows], heads[:-1]


def problems(lines: Sequence[str]) -> str:
    """Returns the lines about what failed."""
    return render_template("app/problems.html.j2", lines=lines)
