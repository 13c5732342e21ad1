"""Writes the card of a model, README.md: what it is, of which data, how good, and how sure."""

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from ml_collections import ConfigDict

from segdiff_jax import __version__
from segdiff_jax.checkpoint import run_data, trust
from segdiff_jax.config import default, flatten
from segdiff_jax.errors import UserError, printable
from segdiff_jax.metrics import LABELS

CURVE = "metrics.jsonl"
HIDDEN = ("data.fingerprint", "data.allow_change", "data.mean", "data.std")
MAX_KINDS_BYTES = 2**22
# of a report: (what it is, the keys that lead to it)
CERTAINTY = (
    ("ECE of all pixels", ("pixels", "image", "ece")),
    ("ECE in the band of contours", ("pixels", "band", "ece")),
    ("ECE in the band, calibrated", ("pixels", "band, calibrated", "ece")),
    ("Spearman of predicted and true Dice", ("quality", "spearman")),
    ("coverage of the 80 % interval of the Dice", ("quality", "coverage")),
    ("mean width of that interval", ("quality", "width")),
    ("AUROC of an object's confidence", ("objects", "confidence")),
)


class Facts(NamedTuple):
    """What a card is made of.

    Attributes:
      name: by which `--model` finds it; DIR, if the package does not ship it.
      config: of the run, without paths.
      step: updates.
      parameters: their number.
      dtype: of the weights in the file.
      calibrations: entries of calibration.json.
      report: of the run; {}: none.
      seeds: reports of runs that differ by their seed.
      data: of the run, see `run_data`.
      kinds: of test pictures, by name.
      hours: of training; nan: unknown.
      about: texts, see `export_args.FACTS`.
    """

    name: str
    config: ConfigDict
    step: int
    parameters: int
    dtype: str
    calibrations: Sequence[Mapping[str, Any]]
    report: Mapping[str, Any]
    seeds: Sequence[Mapping[str, Any]]
    data: run_data.Data
    kinds: Mapping[str, str]
    hours: float
    about: Mapping[str, str]


def render(facts: Facts) -> str:
    """Returns the text of a card, in Markdown with the header of Hugging Face."""
    templates = Environment(
        loader=PackageLoader("segdiff_jax", "export"),
        autoescape=select_autoescape(()),  # none: it is no HTML; `_plain` escapes
        finalize=_plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    c, report = facts.config, facts.report
    given, usual = flatten(c), flatten(default())
    return templates.get_template("card.md.j2").render(
        version=__version__,
        facts=facts,
        about={"title": f"segdiff {c.data.name}", "license": "", **facts.about},
        data=c.data,
        images={use: len(examples) for use, examples in facts.data.items()},
        seeds=sorted({c.seed, *(s["settings"].get("seed", c.seed) for s in facts.seeds)}),
        settings={k: str(v) for k, v in given.items() if v != usual.get(k) and k not in HIDDEN},
        test=(report or {}).get("settings", {}),
        scores=_scores(report, facts.seeds),
        kinds=_by_kind(report, facts.kinds),
        certainty=_certainty(report),
        calibrations=[one["calibration"] for one in facts.calibrations],
    )


def checked_report(content: Any) -> dict[str, Any]:
    """Returns what a card needs of a report; raises KeyError, TypeError where it is none."""
    images = [
        {k: v if k == "name" else _number(v) for k, v in image.items() if k in ("name", *LABELS)}
        for image in content["images"]
    ]
    summary = {
        key: {name: _number(one[name]) for name in ("mean", "standard_error", "defined")}
        for key, one in content["summary"].items()
        if key in LABELS
    }
    settings = {str(k): v for k, v in content["settings"].items() if isinstance(v, str | int)}
    return {
        "settings": settings,
        "summary": summary,
        "images": images,
        "certainty": dict(content.get("certainty") or {}),
    }


def read_kinds(path: Path | None) -> dict[str, str]:
    """Returns the kinds of pictures by name, of lines NAME,KIND.

    Raises:
      UserError: the file cannot be read, or a line is another.
    """
    if path is None:
        return {}
    try:
        if path.stat().st_size > MAX_KINDS_BYTES:
            raise UserError(f"--kinds={path}: must be at most {MAX_KINDS_BYTES} bytes")
        rows = list(csv.reader(io.StringIO(path.read_text("utf-8"))))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"--kinds={path}: cannot be read: {error}") from error
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise UserError(f"--kinds={path}: line {number}: must be NAME,KIND")
    return {name: kind for name, kind in rows}


def split_names(facts: Facts) -> dict[str, list[str]]:
    """Returns the names of the pictures of each split that is known."""
    found = {use: sorted(examples) for use, examples in facts.data.items()}
    test = [str(image["name"]) for image in facts.report.get("images", [])]
    return found | ({"test": sorted(test)} if test else {})


def training_hours(run: Path) -> float:
    """Returns how long the updates of a run took, of its log; nan if that does not tell."""
    path = run / CURVE
    try:
        trust.check_metadata_file(path)
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        steps = [(one["step"], one["steps_per_second"]) for one in lines if "loss" in one]
        seconds, before = 0.0, 0
        for step, pace in steps:
            seconds += max(step - before, 0) / pace
            before = step
        return seconds / 3600 if steps else math.nan
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, UserError):
        return math.nan


def _scores(report: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns a row for each score: mean, standard error over pictures, and over seeds."""
    rows = []
    for key, one in (report or {}).get("summary", {}).items():
        means = [s["summary"][key]["mean"] for s in (report, *seeds) if key in s.get("summary", {})]
        spread = statistics.stdev(means) if len(means) > 1 else math.nan
        of_seeds = {"seeds": len(means), "seeds_mean": statistics.mean(means), "seeds_std": spread}
        rows.append({"name": LABELS[key], **one, **of_seeds})
    return rows


def _by_kind(report: Mapping[str, Any], kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns a row for each kind of pictures: their number, their mean scores, and the worst."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for image in (report or {}).get("images", []) if kinds else []:
        found.setdefault(kinds.get(image["name"], "other"), []).append(image)
    rows = []
    for kind, images in sorted(found.items()):
        row: dict[str, Any] = {"kind": kind, "n": len(images)}
        for key in ("dice", "iou", "weighted_coverage"):
            values = [x for one in images if not math.isnan(x := one.get(key, math.nan))]
            row[key] = statistics.mean(values) if values else math.nan
            row[f"{key}_std"] = statistics.stdev(values) if len(values) > 1 else math.nan
        row["worst"] = min((one.get("dice", math.nan) for one in images), default=math.nan)
        rows.append(row)
    return rows


def _certainty(report: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores of certainty that a report has, by what they are."""
    found = {}
    for label, keys in CERTAINTY:
        value: Any = (report or {}).get("certainty", {})
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float):
            found[label] = value
    return found


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    """Returns a value as text without tags, borders of tables and control characters."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    if isinstance(value, str):
        lines = [printable(line) for line in value.splitlines()]
        return "\n".join(lines).replace("<", "&lt;").replace("|", "\\|")
    return value
