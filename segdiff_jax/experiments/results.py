"""What a grid leaves behind, as files that appear whole or not at all; needs no jax."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from segdiff_jax.experiments.claims import Holder, holder
from segdiff_jax.runtime.files import atomic_write

RESULT, TRAINED, FAILED = "result.json", "trained.json", "failed.json"


State = Literal["done", "failed", "running", "open"]


class Found(NamedTuple):
    """What is known of a cell.

    Attributes:
      state: "open": nobody works on it.
      line: for people: who works on it, or what went wrong.
    """

    state: State
    line: str


def look(run: Path, answer: Path) -> Found:
    """Returns the state of the cell with this work directory and this answer."""
    if (answer / RESULT).exists():
        return Found("done", "done")
    for place in (run, answer):
        if (failure := read(place / FAILED)) is not None:
            return Found("failed", f"failed: {failure['line']}")
        if (owner := holder(place)) is not None and not owner.dead:
            return Found("running", f"running on {_named(owner)}")
    return Found("open", "not run" if not (run / TRAINED).exists() else "trained, not measured")


def _named(owner: Holder) -> str:
    return f"{owner.host}:{owner.pid}"


def read(path: Path) -> dict[str, Any] | None:
    """Returns what a JSON file holds, or None if it is not there."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file; what is not a finite number becomes null.

    Raises:
      UserError: it cannot be written.
    """
    stamped = {**content, "written": time.strftime("%Y-%m-%d %H:%M:%S")}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(plain(stamped), indent=1, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """The same in types that strict JSON has."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
