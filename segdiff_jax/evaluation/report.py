"""What an evaluation leaves behind: report.json for programs, report.html for people.

The page is one file: pictures are inside it, nothing is loaded from elsewhere. A score that is
undefined is null in the JSON and the word "undefined" on the page, never 0.
"""

import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segdiff_jax.errors import UserError
from segdiff_jax.evaluation import charts, html_page
from segdiff_jax.metrics import LABELS, calibration_score, summarise
from segdiff_jax.runtime.files import atomic_write

SHOWN = 24  # panels on the page, at most; the files of the others stay beside it


def save_panel(directory: str | os.PathLike, index: int, name: str, picture: Image.Image) -> Path:
    """Writes the panel of the image of this index as <directory>/panels/<index>_<name>.png.

    Characters of the name that a file name may not hold become "_"; the index keeps files apart.
    """
    safe = re.sub(r"[^\w.-]+", "_", name)[:80]
    path = Path(directory) / "panels" / f"{index:04d}_{safe}.png"
    file = io.BytesIO()
    picture.save(file, "PNG")
    _write(path, file.getvalue())
    return path


def write_report(
    directory: str | os.PathLike,
    *,
    title: str,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, Mapping[str, float]],
    calibration_sums: np.ndarray,
    panels: Sequence[str | os.PathLike | None] = (),
    training_curve: Sequence[Mapping[str, float]] | None = None,
) -> Path:
    """Writes report.json and report.html; each appears whole or not at all.

    Args:
      directory: made if missing.
      title: the heading.
      settings: what a reader needs to judge or repeat the run, in the order to show it.
      rows: one per image: "name", the scores of `metrics.scores`, and "group" if it has one.
      baselines: mean scores by name of the baseline.
      calibration_sums: [3, bins], the sum of `metrics.calibration` over images.
      panels: one per row, in the same order: a PNG file, or None; empty: no panels.
      training_curve: mappings with "step" and "loss"; None: no curve.

    Returns:
      The path of report.html.

    Raises:
      UserError: there are no rows, or a file cannot be written.
    """
    if not rows:
        raise UserError("no images to report: the split is empty")
    if panels and len(panels) != len(rows):
        raise ValueError(f"{len(panels)} panels for {len(rows)} rows")
    directory = Path(directory)
    content = _content(title, settings, rows, baselines, calibration_sums, training_curve)
    for row, path in zip(content["images"], panels, strict=False):
        row["panel"] = None if path is None else os.path.relpath(path, directory)
    _write(directory / "report.json", json.dumps(content, indent=1, allow_nan=False).encode())
    order = by_need(content["images"])
    pictures = {i: charts.embed(path) for i in _shown(order, panels) if (path := panels[i])}
    html = html_page.render(content, LABELS, order, pictures, _charts(content))
    _write(directory / "report.html", html.encode())
    return directory / "report.html"


def by_need(images: Sequence[Mapping[str, Any]]) -> list[int]:
    """Indices of the images that most need a look first: no Dice, then from the lowest Dice."""
    dice = [image.get("dice") for image in images]
    keys = [-1.0 if value is None else float(value) for value in dice]
    return sorted(range(len(images)), key=keys.__getitem__)


def _shown(order: Sequence[int], panels: Sequence[object]) -> list[int]:
    """Indices of the panels on the page: all, or `SHOWN`, half of them the first, the rest even."""
    drawn = [i for i in order if panels and panels[i] is not None]
    if len(drawn) <= SHOWN:
        return drawn
    first, rest = drawn[: SHOWN // 2], drawn[SHOWN // 2 :]
    places = np.linspace(0, len(rest) - 1, SHOWN - len(first)).round().astype(int)
    return first + [rest[place] for place in places]


def _content(
    title: str,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, Mapping[str, float]],
    sums: np.ndarray,
    curve: Sequence[Mapping[str, float]] | None,
) -> dict[str, Any]:
    """Everything in report.json, of plain types; the page is made from nothing else."""
    keys = [key for key in LABELS if key in rows[0]]
    return _plain(
        {
            "title": title,
            "settings": settings,
            "summary": {k: s._asdict() for k, s in summarise(rows, keys).items()},
            "groups": _groups(rows, keys),
            "baselines": baselines,
            "calibration": {"pooled_score": calibration_score(sums), "bins": _bins(sums)},
            "images": rows,
            "training_curve": curve,
        }
    )


def _groups(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Mean scores and number of images by group, and the plain mean of the groups' means."""
    names = sorted({group for row in rows if (group := row.get("group"))})
    groups: dict[str, dict[str, Any]] = {}
    for name in names:
        inside = [row for row in rows if row.get("group") == name]
        summary = summarise(inside, keys)
        groups[name] = {"images": len(inside), **{key: summary[key].mean for key in keys}}
    if len(names) > 1:
        mean = {key: sum(groups[name][key] for name in names) / len(names) for key in keys}
        groups["mean of the groups"] = {"images": len(rows), **mean}
    return groups


def _bins(sums: np.ndarray) -> list[dict[str, float]]:
    """Calibration sums [3, bins] as one mapping a bin; means of a bin without pixels are nan."""
    n = sums.shape[1]
    return [
        {
            "from": i / n,
            "to": (i + 1) / n,
            "pixels": int(pixels),
            "mean_probability": probability / pixels if pixels else math.nan,
            "share_positive": positives / pixels if pixels else math.nan,
        }
        for i, (probability, positives, pixels) in enumerate(sums.T.tolist())
    ]


def _plain(value: Any) -> Any:
    """The same in types that strict JSON has; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def _charts(content: Mapping[str, Any]) -> dict[str, str]:
    """The charts of a report by caption, as data URLs."""
    dice = [row["dice"] for row in content["images"] if row.get("dice") is not None]
    pictures = {
        "Calibration, all pixels together": charts.reliability(content["calibration"]["bins"]),
        "Dice of every image": charts.spread(dice, "Dice", html_page.best_baseline(content)),
    }
    if content["training_curve"]:
        pictures["Training loss"] = charts.training_curve(content["training_curve"])
    return {caption: charts.data_url("png", picture) for caption, picture in pictures.items()}


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
