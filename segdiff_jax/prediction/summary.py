"""What an output folder says of itself: settings.json, and summary.csv with a row per image.

A row is written after all files of its image, so what has a row is done.
"""

import csv
import errno
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from segdiff_jax.errors import UserError
from segdiff_jax.prediction.output_maps import MapStatistics
from segdiff_jax.runtime.files import atomic_write, reporting_write_errors


class Row(NamedTuple):
    """One image; the columns of summary.csv in their order.

    Attributes:
      name: of the file, from the folder of the input.
      width, height: pixels.
      foreground_share, mean_confidence, mean_uncertainty, agreement: see `masks.Figures`.
      look_rank: 1 is the image that most needs a human's look; 0 until the ranks are made.
      seconds: that it took, from the image before it to the last of its files.
      file_bytes, file_modified: of the image file when it was read; the second in nanoseconds
        since 1970.
    """

    name: str
    width: int
    height: int
    foreground_share: float
    mean_confidence: float
    mean_uncertainty: float
    agreement: float
    look_rank: int
    seconds: float
    file_bytes: int
    file_modified: int


def row(
    name: str, shape: tuple[int, int], figures: MapStatistics, seconds: float, state: os.stat_result
) -> Row:
    """Returns the row of an image of shape (H, W), whose file was in this state when read."""
    return Row(
        name=name,
        width=shape[1],
        height=shape[0],
        **{key: round(figure, 6) for key, figure in figures._asdict().items()},
        look_rank=0,
        seconds=round(seconds, 3),
        file_bytes=state.st_size,
        file_modified=state.st_mtime_ns,
    )


def review_priority(row: Row) -> tuple[Any, ...]:
    """What rows are sorted by to have those first that most need a look."""
    return row.agreement, -row.mean_uncertainty, row.mean_confidence, row.name


class Summary:
    """summary.csv of an output folder; use it in a `with` block, at whose end rows are ranked.

    Attributes:
      path: of the file.
      rows: by name.
    """

    def __init__(self, output: Path, fresh: bool = False) -> None:
        """Takes the rows that are there; an unfinished last line is dropped.

        Args:
          output: the folder.
          fresh: whether to begin without them.

        Raises:
          UserError: the file is not ours.
        """
        self.path = output / "summary.csv"
        rows = [] if fresh or not self.path.exists() else _read(self.path)
        self.rows = {row.name: row for row in rows}

    def __enter__(self) -> "Summary":
        """Writes the rows that count, so that others can be appended."""
        self._write(self.rows.values())
        return self

    def __exit__(self, *_: object) -> None:
        """Ranks the rows, also when the work was cut short."""
        ranked = sorted(self.rows.values(), key=review_priority)
        self.rows = {row.name: row._replace(look_rank=i) for i, row in enumerate(ranked, start=1)}
        self._write(self.rows.values())

    def is_done(self, name: str, file: Path, outputs: Iterable[Path]) -> bool:
        """Whether all that is made of a file is there, made of the file as it is now."""
        if name not in self.rows or not file.exists():
            return False
        row, state = self.rows[name], file.stat()
        same = (row.file_bytes, row.file_modified) == (state.st_size, state.st_mtime_ns)
        return same and all(path.is_file() for path in outputs)

    def add(self, row: Row) -> None:
        """Appends a row; a second one of the same name takes the place of the first."""
        self.rows[row.name] = row
        with reporting_write_errors(self.path), open(self.path, "ab", buffering=0) as file:
            text = _lines([row])
            if file.write(text) < len(text):  # in one call, so that others see whole lines
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _write(self, rows: Iterable[Row]) -> None:
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(_lines([Row._fields, *rows]))


def _lines(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")


def _read(path: Path) -> list[Row]:
    text = path.read_bytes().decode(errors="surrogateescape")
    lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    types = list(Row.__annotations__.values())
    try:
        if not lines or tuple(lines[0]) != Row._fields:
            raise ValueError("another header")
        return [Row(*(kind(x) for kind, x in zip(types, line, strict=True))) for line in lines[1:]]
    except ValueError as error:
        raise UserError(
            f"{path}: is not as this programme writes it ({error}): choose another --output, or "
            "remove it to have all images predicted anew"
        ) from error


def check_settings(output: Path, settings: dict[str, Any], overwrite: bool) -> bool:
    """Writes settings.json, or holds a continued prediction to what it began with.

    Args:
      output: the folder.
      settings: all that the answers depend on, of types that JSON has.
      overwrite: whether other settings may take the place of those that are there.

    Returns:
      Whether what is in the folder was made with these settings.

    Raises:
      UserError: it was made with others, which are named, and may not be overwritten.
    """
    path, settings = output / "settings.json", json.loads(json.dumps(settings))
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
        differ = "; ".join(
            f"{key} was {saved.get(key)}, now {settings.get(key)}"
            for key in [*settings, *(saved.keys() - settings.keys())]
            if saved.get(key) != settings.get(key)
        )
        raise UserError(
            f"--output={output}: holds predictions made with other settings ({differ}): choose "
            "another --output, or --overwrite to make them anew"
        )
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")
    return False


def unrelated_content(output: Path, folders: Iterable[str]) -> str:
    """Returns what lies where a prediction would write that no prediction has written, or ""."""
    if (output / "settings.json").exists():
        return ""
    if (output / "summary.csv").exists():
        return "summary.csv"
    taken = (name for name in folders if (output / name).is_dir() and os.listdir(output / name))
    return next(taken, "")
