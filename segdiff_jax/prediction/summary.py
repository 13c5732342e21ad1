"""Reads and writes settings.json and summary.csv of an output folder.

summary.csv has a row for each image, which is written after all files of the image: an image that
has a row is done.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segdiff_jax.errors import UserError
from segdiff_jax.prediction import csv_files
from segdiff_jax.prediction.csv_cells import cell_of_name, name_of_cell
from segdiff_jax.prediction.inputs import CLASS_TABLE
from segdiff_jax.prediction.object_table import TABLE
from segdiff_jax.prediction.output_maps import MapStatistics
from segdiff_jax.runtime.files import atomic_write, write_bytes

SUMMARY, SETTINGS = "summary.csv", "settings.json"  # of an output folder
FILES = SUMMARY, SETTINGS, TABLE, CLASS_TABLE


class Row(NamedTuple):
    """Holds the columns of summary.csv for one image, in their order.

    Attributes:
      name: of the file, relative to the folder of the input.
      width, height: pixels.
      foreground_share, mean_confidence, mean_uncertainty, agreement: see `MapStatistics`, and so
        samples; 0 in rows of earlier versions, which had no such column.
      review_rank: 1 is the image that most needs a human's review; 0 until the ranks are computed.
        Its column is called look_rank.
      seconds: from the end of the image before it to the last of its files.
      file_bytes, file_modified: size of the image file and time of its last change, in nanoseconds
        since 1970, when it was read.
      values: what became black and white of more than 8 bits, see `reading.ReadImage`.
      predicted_dice, dice_low, dice_high: of the mask with the truth, and its 80 % interval; empty
        where the run is not calibrated, as all that follows.
      area, area_low, area_high: foreground pixels, likewise.
      objects, objects_low, objects_high: their number, likewise.
      unlike: in what the picture is unlike those of the calibration: then nothing is promised.
    """

    name: str
    width: int
    height: int
    foreground_share: float
    mean_confidence: float
    mean_uncertainty: float
    agreement: float
    review_rank: int
    seconds: float
    file_bytes: int
    file_modified: int
    samples: int = 0
    values: str = ""
    predicted_dice: float = math.nan
    dice_low: float = math.nan
    dice_high: float = math.nan
    area: float = math.nan
    area_low: float = math.nan
    area_high: float = math.nan
    objects: float = math.nan
    objects_low: float = math.nan
    objects_high: float = math.nan
    unlike: str = ""


EARLIER = 11, 12, 13  # columns of earlier versions: up to file_modified, samples and values
COLUMNS = tuple({"review_rank": "look_rank"}.get(name, name) for name in Row._fields)


def row(
    name: str,
    shape: tuple[int, int],
    of_maps: MapStatistics,
    seconds: float,
    state: os.stat_result,
    values: str = "",
    certainty: Sequence[Any] = (),
) -> Row:
    """Returns the row of an image of shape (H, W), whose file had this state when it was read.

    `certainty` has the columns from predicted_dice on; () where nothing is known.
    """
    (height, width), shares = shape, [round(value, 6) for value in of_maps[:4]]
    foreground, confidence, uncertainty, agreement = shares
    return Row(
        *(name, width, height, foreground, confidence, uncertainty, agreement),
        *(0, round(seconds, 3), state.st_size, state.st_mtime_ns, of_maps.samples, values),
        *certainty,
    )


def counted(row: Row) -> str:
    """Returns how many objects there are, as ", 5 objects (80 %: 3 to 6)"; "" if not calibrated."""
    if math.isnan(row.objects_low):
        return ""
    return f", {row.objects:.0f} objects (80 %: {row.objects_low:g} to {row.objects_high:g})"


def quality(row: Row) -> tuple[str, float]:
    """Returns the name and the value of what images are ranked by: the predicted Dice, if known."""
    if math.isnan(row.predicted_dice):
        return "agreement", row.agreement
    return "predicted Dice", row.predicted_dice


def review_priority(row: Row) -> tuple[Any, ...]:
    """Returns the sort key that puts the rows first that most need a review."""
    return quality(row)[1], -row.mean_uncertainty, row.mean_confidence, row.name


class Summary:
    """Keeps summary.csv of an output folder; at the end of its `with` block, rows are ranked."""

    def __init__(self, output: Path, fresh: bool = False) -> None:
        """Reads the existing rows, unless `fresh`; an incomplete last line is dropped.

        Raises:
          UserError: the file was written by something else.
        """
        self.path = output / SUMMARY
        rows = [] if fresh or not self.path.exists() else _read(self.path)
        self.rows = {row.name: row for row in rows}  # by name of the image

    def __enter__(self) -> "Summary":
        """Writes the existing rows, so that others can be appended."""
        self._write(self.rows.values())
        return self

    def __exit__(self, *_: object) -> None:
        """Ranks and writes the rows, also after an exception."""
        ranked = sorted(self.rows.values(), key=review_priority)
        self.rows = {row.name: row._replace(review_rank=i) for i, row in enumerate(ranked, start=1)}
        self._write(self.rows.values())

    def is_done(self, name: str, file: Path, outputs: Iterable[Path]) -> bool:
        """Returns whether all outputs of a file exist and it has not changed since."""
        if name not in self.rows or not file.exists():
            return False
        row, state = self.rows[name], file.stat()
        same = (row.file_bytes, row.file_modified) == (state.st_size, state.st_mtime_ns)
        return same and all(path.is_file() for path in outputs)

    def add(self, row: Row) -> None:
        """Appends a row; it replaces an earlier one of the same name."""
        self.rows[row.name] = row
        csv_files.append(self.path, [_cells(row)])

    def _write(self, rows: Iterable[Row]) -> None:
        write_bytes(self.path, csv_files.encode([COLUMNS, *map(_cells, rows)]))


def _cells(row: Row) -> list[Any]:
    """Returns the cells of a row: of what is not known, which is nan, nothing."""
    return [x if x == x else "" for x in row._replace(name=cell_of_name(row.name))]


def _read(path: Path) -> list[Row]:
    lines = csv_files.read(path)
    types = list(Row.__annotations__.values())
    try:
        if not lines or tuple(lines[0]) not in (COLUMNS[:n] for n in (*EARLIER, len(COLUMNS))):
            raise ValueError("another header")
        types = types[: len(lines[0])]
        rows = (
            Row(*(_value(kind, x) for kind, x in zip(types, line, strict=True)))
            for line in lines[1:]
        )
        return [row._replace(name=name_of_cell(row.name)) for row in rows]
    except ValueError as error:
        raise UserError(
            f"{path}: is not in the format this program writes ({error}): choose another --output, "
            "or remove it to predict all images again"
        ) from error


def _value(kind: type, text: str) -> Any:
    return math.nan if kind is float and not text else kind(text)


def check_settings(output: Path, settings: dict[str, Any], overwrite: bool) -> bool:
    """Writes settings.json, or checks the settings against those of an earlier command.

    They are everything the predictions depend on, of types that JSON has. Returns whether the
    folder's content was made with them; others are replaced only with `overwrite`.

    Raises:
      UserError: it was made with others, which are named, and must not be overwritten.
    """
    path, settings = output / SETTINGS, json.loads(json.dumps(settings))
    saved: dict[str, Any] | None = None
    if path.exists():
        try:
            saved = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            if not overwrite:
                raise UserError(f"{path}: cannot be read: {error}; --overwrite it") from error
    if saved == settings:
        return True
    if saved is not None and not overwrite:
        raise UserError(
            f"--output={output}: holds predictions made with other settings "
            f"({_differences(saved, settings)}): choose another --output, or --overwrite to "
            "replace them"
        )
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")
    return False


def _differences(saved: dict[str, Any], settings: dict[str, Any]) -> str:
    return "; ".join(
        f"{key} was {saved.get(key)}, now {settings.get(key)}"
        for key in [*settings, *(key for key in saved if key not in settings)]
        if saved.get(key) != settings.get(key)
    )


def unrelated_content(output: Path, folders: Iterable[str]) -> str:
    """Returns a name in `output` that would be overwritten and is no prediction's, or ""."""
    if (output / SETTINGS).exists():
        return ""
    for name in (SUMMARY, TABLE, CLASS_TABLE):
        if (output / name).exists():
            return name
    taken = (name for name in folders if (output / name).is_dir() and os.listdir(output / name))
    return next(taken, "")
