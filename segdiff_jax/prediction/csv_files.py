"""Encodes, appends and reads lines of CSV, so that a program that is killed leaves whole lines."""

import csv
import errno
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segdiff_jax.runtime.files import reporting_write_errors

NAMES = "surrogateescape"  # of files that are no text


def encode(lines: Iterable[Iterable[Any]]) -> bytes:
    """Returns lines of cells as CSV, which ends with a line feed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode(errors=NAMES)


def append(path: Path, lines: Iterable[Iterable[Any]]) -> None:
    """Appends lines in one call, so that readers see whole ones.

    Raises:
      UserError: the file cannot be written.
    """
    text = encode(lines)
    with reporting_write_errors(path), open(path, "ab", buffering=0) as file:
        if file.write(text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read(path: Path) -> list[list[str]]:
    """Returns the lines of a file; an incomplete last one is dropped."""
    text = path.read_bytes().decode(errors=NAMES)
    return list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
