"""Keeps calibrations with their run: calibration.json, one entry for each way of predicting."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.certainty.pixels import PixelModel
from segdiff_jax.certainty.quality import QualityModel
from segdiff_jax.certainty.quantities import IntervalModel
from segdiff_jax.certainty.regression import Linear
from segdiff_jax.certainty.risk import RiskModel
from segdiff_jax.certainty.strangers import Ranges
from segdiff_jax.checkpoint import trust
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.runtime import files

FILE = "calibration.json"
FORMAT = 1
# NamedTuples that JSON keeps as objects, by field of the calibration
_PARTS = {
    "quality": QualityModel,
    "rated": QualityModel,
    "area": IntervalModel,
    "count": IntervalModel,
    "confidence": Linear,
    "pixels": PixelModel,
    "risk": RiskModel,
    "suspicion": Linear,
    "ranges": Ranges,
}


def write(workdir: Path, settings: Mapping[str, Any], calibration: Calibration) -> Path:
    """Adds a calibration to those of a run; it replaces one of the same settings.

    Args:
      workdir: of the run.
      settings: what the predictions depend on, of types that JSON has.
      calibration: for them.

    Returns:
      The path of the file.

    Raises:
      UserError: the file cannot be written, or holds something else.
    """
    path, wanted = workdir / FILE, json.loads(json.dumps(settings))
    kept = [entry for entry in _entries(path) if entry["settings"] != wanted]
    write_entries(path, [*kept, {"settings": wanted, "calibration": to_json(calibration)}])
    return path


def read(workdir: Path, settings: Mapping[str, Any]) -> tuple[Calibration | None, str]:
    """Returns the calibration of a run for these settings; or None and the reason, for people.

    Raises:
      UserError: the file is not what `write` writes.
    """
    path, wanted = workdir / FILE, json.loads(json.dumps(settings))
    saved_entries = _entries(path)
    for entry in saved_entries:
        if entry["settings"] == wanted:
            try:
                return from_json(entry["calibration"]), ""
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise _unreadable(path, error) from error
    if not saved_entries:
        return None, f"{workdir} holds no {FILE}: segdiff calibrate --workdir={workdir} makes it"
    saved = saved_entries[-1]["settings"]
    differing = [
        f"{key} {saved.get(key)}, now {wanted.get(key)}"
        for key in [*wanted, *(key for key in saved if key not in wanted)]
        if saved.get(key) != wanted.get(key)
    ]
    return None, f"{path} was made with other settings: {'; '.join(differing)}"


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        trust.check_config_file(path)
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, this version reads {FORMAT}")
        entries = [{"settings": dict(e["settings"]), **e} for e in content["entries"]]
        _ = [entry["calibration"] for entry in entries]
        return entries
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    message = f"{path} is no calibration: {error}; remove it and run segdiff calibrate again"
    return UserError(message, BAD_CHECKPOINT)


def entries(workdir: Path) -> list[dict[str, Any]]:
    """Returns the entries of a run's calibration, without the paths that they name; [] if none.

    Raises:
      UserError: the file is not what `write` writes.
    """
    path = workdir / FILE
    found = _entries(path)
    for entry in found:
        try:
            from_json(entry["calibration"])
            source = entry["calibration"]["source"]
            if Path(source).is_absolute():
                entry["calibration"]["source"] = Path(source).name
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unreadable(path, error) from error
    return found


def write_entries(path: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """Writes what `entries` returns; raises UserError if it cannot be written."""
    files.write_json(path, {"format": FORMAT, "entries": found}, indent=1)


def to_json(calibration: Calibration) -> dict[str, Any]:
    """Returns the content of a calibration of types that JSON has."""
    found = calibration._asdict()
    for name in _PARTS:
        found[name] = None if found[name] is None else found[name]._asdict()
    for name in ("quality", "rated", "area", "count"):
        if found[name] is not None:
            found[name]["width"] = {str(k): v for k, v in found[name]["width"].items()}
    for name in ("quality", "rated"):
        if found[name] is not None:
            found[name]["line"] = found[name]["line"]._asdict()
    classes = {
        name: {key: None if part is None else _of_interval(part) for key, part in parts.items()}
        for name, parts in found.pop("classes").items()
    }
    found |= {"classes": classes} if classes else {}  # else as of versions without them
    found |= {"least": least} if (least := found.pop("least")) else {}
    if found["risk"] is not None:
        for name in ("missed", "false"):
            found["risk"][name] = [round(value, 6) for value in found["risk"][name]]
    return found


def _of_interval(model: IntervalModel) -> dict[str, Any]:
    return model._asdict() | {"width": {str(k): v for k, v in model.width.items()}}


def _interval(part: Mapping[str, Any] | None) -> IntervalModel | None:
    if part is None:
        return None
    return IntervalModel(**{key: _read(key, value) for key, value in part.items()})


def from_json(content: Mapping[str, Any]) -> Calibration:
    """Reads what `to_json` returns; a wrong type or name raises TypeError, ValueError, KeyError."""
    found: dict[str, Any] = dict(content)
    for name, kind in _PARTS.items():
        part = found[name]
        if part is not None:
            found[name] = kind(**{key: _read(key, value) for key, value in part.items()})
    classes = {
        name: {key: _interval(part) for key, part in parts.items()}
        for name, parts in found.pop("classes", {}).items()
    }
    found["least"] = _number(found.get("least", 0.0))
    return Calibration(**found, classes=classes)


def _read(key: str, value: Any) -> Any:
    if key == "width":
        return {float(k): None if v is None else _number(v) for k, v in value.items()}
    if key == "line":
        return Linear(**{k: _read(k, v) for k, v in value.items()})
    if key == "ranges":
        return {name: tuple(map(_number, pair)) for name, pair in value.items()}
    if isinstance(value, list):
        return tuple(str(x) if key == "names" else _number(x) for x in value)
    return value if isinstance(value, str | bool | int) else _number(value)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no finite number")
    return number
