"""Keeps measurements as lines of JSON, each on the disk as soon as it is made."""

import json
import os
import time
from pathlib import Path
from typing import Any


class ResultsFile:
    """A file of lines {"part": ..., "what": ..., ...}; one that a kill tore is passed over.

    Attributes:
      path: of the file; made by the first line.
    """

    def __init__(self, path: Path) -> None:
        """Continues a file, or begins it."""
        self.path = path

    def add(self, part: str, what: str, **values: Any) -> None:
        """Appends a line, and prints it."""
        line = json.dumps({"part": part, "what": what, **values, "at": round(time.time(), 1)})
        torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a") as file:
            file.write("\n" * (torn and self.path.stat().st_size > 0) + line + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(line, flush=True)

    def lines(self, part: str, what: str) -> list[dict[str, Any]]:
        """Returns the lines of a part of one kind, in their order."""
        found = []
        for text in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                line = json.loads(text)
            except ValueError:  # torn
                continue
            if (line.get("part"), line.get("what")) == (part, what):
                found.append(line)
        return found

    def last(self, part: str, what: str) -> dict[str, Any] | None:
        """Returns the last of these lines; None: there is none."""
        return next(reversed(self.lines(part, what)), None)
