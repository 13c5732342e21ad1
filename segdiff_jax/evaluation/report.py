"""Writes the report of an evaluation: report.json for programs, report.html for people.

The page is self-contained: pictures are embedded, and it loads no other file. An undefined score is
null in the JSON and "undefined" on the page, never 0.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segdiff_jax.errors import UserError
from segdiff_jax.evaluation import (
    annotator_scores,
    certainty_charts,
    charts,
    html_page,
    joint_scores,
    object_scores,
)
from segdiff_jax.metrics import LABELS, calibration_score, pooled_boundary_f, summarise
from segdiff_jax.runtime import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FURTHER = annotator_scores.LABELS | joint_scores.LABELS
MAX_PANELS = 24  # on the page; all of them are files in panels/


def save_panel(directory: str | os.PathLike, index: int, name: str, panel: "Figure") -> Path:
    """Writes the panel of an image as <directory>/panels/<index>_<name>.png; returns the path.

    Characters of the name that a file name may not hold become "_"; the index makes it unique.
    """
    safe = re.sub(r"[^\w.-]+", "_", name)[:80]
    path = Path(directory) / "panels" / f"{index:04d}_{safe}.png"
    files.write_bytes(path, charts.render_png(panel))
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
    certainty: Mapping[str, Any] | None = None,
    objects: object_scores.Counts | None = None,
    contours: np.ndarray | None = None,
    classes: Mapping[str, Any] | None = None,
) -> Path:
    """Writes report.json and report.html; returns the path of report.html.

    Args:
      directory: created if missing.
      title: the heading.
      settings: what a reader needs to judge or repeat the run, in the order to show it.
      rows: one per image: "name", `metrics.scores`, any of FURTHER, "group" if it has one, and
        with `objects` all of `object_scores.LABELS`.
      baselines: mean scores by name.
      calibration_sums: [3, bins], the sum of `metrics.calibration` over images.
      panels: a PNG file, or None, for each row; empty: no panels.
      training_curve: mappings with "step" and "loss"; None: no curve.
      certainty: see `certainty.scores`; None: no such part, as for those that follow.
      objects: counts of all images together.
      contours: the sum of `metrics.boundary_counts`.
      classes: see `class_scores.report`.

    Raises:
      UserError: there are no rows, or a file cannot be written.
    """
    _check(rows, panels)
    content = _content(title, settings, rows, baselines, calibration_sums, training_curve)
    content |= files.to_json_types({"certainty": certainty, "classes": classes})
    content |= _together(rows, objects, contours)
    return _write(Path(directory), content, panels)


def _write(directory: Path, content: dict[str, Any], panels: Sequence[Any]) -> Path:
    _link(content["images"], panels, directory)
    files.write_json(directory / "report.json", content)
    files.write_bytes(directory / "report.html", _page(content, panels))
    return directory / "report.html"


def _page(content: Mapping[str, Any], panels: Sequence[Any]) -> bytes:
    order = review_order(content["images"])
    pictures = {i: charts.embed(path) for i in _select(order, panels) if (path := panels[i])}
    labels = LABELS | FURTHER
    return html_page.render(content, labels, order, pictures, _charts(content)).encode()


def _link(
    images: Sequence[dict[str, Any]], panels: Sequence[Any], directory: str | os.PathLike
) -> None:
    """Adds the path of its panel, relative to the directory of the report, to each image."""
    for row, path in zip(images, panels, strict=False):
        row["panel"] = None if path is None else os.path.relpath(path, directory)


def _check(rows: Sequence[object], panels: Sequence[object]) -> None:
    if not rows:
        raise UserError("no images to report: the split is empty")
    if panels and len(panels) != len(rows):
        raise ValueError(f"{len(panels)} panels for {len(rows)} rows")


def review_order(images: Sequence[Mapping[str, Any]]) -> list[int]:
    """Returns the indices of images without a Dice, then those of the others by ascending Dice."""
    dice = [image.get("dice") for image in images]
    keys = [-1.0 if value is None else value for value in dice]
    return sorted(range(len(images)), key=keys.__getitem__)


def _select(order: Sequence[int], panels: Sequence[object]) -> list[int]:
    """Returns indices of at most `MAX_PANELS` panels: half the first ones, half evenly spaced."""
    available = [i for i in order if panels and panels[i] is not None]
    if len(available) <= MAX_PANELS:
        return available
    first, rest = available[: MAX_PANELS // 2], available[MAX_PANELS // 2 :]
    spaced = np.linspace(0, len(rest) - 1, MAX_PANELS - len(first)).round().astype(int)
    return first + [rest[i] for i in spaced]


def _content(
    title: str,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, Mapping[str, float]],
    sums: np.ndarray,
    curve: Sequence[Mapping[str, float]] | None,
) -> dict[str, Any]:
    """Returns the content of report.json, from which the page is made."""
    keys, further = ([key for key in labels if key in rows[0]] for labels in (LABELS, FURTHER))
    return files.to_json_types(
        {
            "title": title,
            "settings": settings,
            "summary": {k: s._asdict() for k, s in summarise(rows, keys).items()},
            "further": {k: s._asdict() for k, s in summarise(rows, further).items()},
            "groups": _groups(rows, keys),
            "baselines": baselines,
            "calibration": {"pooled_score": calibration_score(sums), "bins": _bins(sums)},
            "images": rows,
            "training_curve": curve,
        }
    )


def _together(
    rows: Sequence[Mapping[str, Any]],
    objects: object_scores.Counts | None,
    contours: np.ndarray | None,
) -> dict[str, Any]:
    """Returns the scores of all images together: of objects, of contours; None: undefined."""
    value = math.nan if contours is None else pooled_boundary_f(contours)
    boundary_f = None if math.isnan(value) else value
    return {"objects": _objects(rows, objects), "pooled_boundary_f": boundary_f}


def _objects(
    rows: Sequence[Mapping[str, Any]], counts: object_scores.Counts | None
) -> dict[str, Any] | None:
    """Returns the scores of all objects together, and their means over images."""
    if counts is None:
        return None
    means = {k: s._asdict() for k, s in summarise(rows, [*object_scores.LABELS]).items()}
    hits = dict(zip(map(str, object_scores.THRESHOLDS), counts.hits.tolist(), strict=True))
    together = object_scores.scores(counts)
    return files.to_json_types({"together": together, "images": means, "hits": hits})


def _groups(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns number of images and mean scores by group, and the mean of the groups' means."""
    groups: dict[str, dict[str, Any]] = {}
    for name in sorted({group for row in rows if (group := row.get("group"))}):
        inside = [row for row in rows if row.get("group") == name]
        summary = summarise(inside, keys)
        groups[name] = {"images": len(inside), **{key: summary[key].mean for key in keys}}
    if len(groups) > 1:
        mean = {k: sum(row[k] for row in groups.values()) / len(groups) for k in keys}
        groups["mean of the groups"] = {"images": len(rows), **mean}
    return groups


def _bins(sums: np.ndarray) -> list[dict[str, float]]:
    """Returns a mapping for each bin of calibration sums [3, bins]; nan for means of no pixels."""
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


def _charts(content: Mapping[str, Any]) -> dict[str, str]:
    """Returns the charts of a report by caption, as data URLs."""
    dice = [row["dice"] for row in content["images"] if row.get("dice") is not None]
    pictures = {
        "Calibration, all pixels together": charts.reliability(content["calibration"]["bins"]),
        "Dice of every image": charts.spread(dice, "Dice", html_page.best_baseline(content)),
    }
    if content["training_curve"]:
        pictures["Training loss"] = charts.training_curve(content["training_curve"])
    if content["certainty"]:
        pictures |= certainty_charts.charts(content["certainty"])
    return {caption: charts.data_url("png", picture) for caption, picture in pictures.items()}
