"""The page of a report: the content of report.json and pictures -> one HTML document.

Every text from outside goes through `html.escape`; nothing refers to another file or host.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

LOWER_IS_BETTER = {"calibration"}


MEANINGS = {
    "iou": "Intersection over union of the foreground, per image; 0 when truth and prediction are "
    "both empty. Its mean over images is the mIoU of the paper.",
    "dice": "Twice the intersection over the sum of the areas, per image; the F1 of the foreground "
    "pixels.",
    "area_ratio": "The smaller area over the larger, wherever the pixels lie: what the authors' "
    "code reports as WCov. Never below the IoU; undefined when both masks are empty.",
    "weighted_coverage": "Best IoU of each connected true region with a predicted one, weighted by "
    "area: WCov in the literature. Undefined when the truth is empty.",
    "boundary_f": "F-measure of the contours, mean over tolerances of 1 to 5 pixels (FBound); 1 "
    "when neither mask has a contour.",
    "calibration": "Squared difference between mean probability and share of foreground, mean over "
    "ten bins of probability that hold pixels. Lower is better.",
}


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 1240px; margin: 2em auto;
  padding: 0 1.5em }
h1 { font-size: 1.7em; margin-bottom: .3em } h2 { font-size: 1.2em; margin: 2em 0 .5em }
table { border-collapse: collapse }
th, td { padding: .35em .8em; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; padding-left: .4em }
td:first-child, .settings td { white-space: normal; overflow-wrap: anywhere }
thead th { border-bottom: 2px solid #d0d7de; vertical-align: bottom }
tbody td { border-bottom: 1px solid #eaeef2; font-variant-numeric: tabular-nums }
tr.ours td { background: #ddf4ff; font-weight: 600 }
.undefined { color: #bc4c00; font-style: italic; font-weight: 400 }
.small, figcaption { color: #59636e; font-size: .85em; font-weight: 400 }
.verdict { border-left: 5px solid #1a7f37; background: #f0fff4; padding: .7em 1em }
.warning { border-left-color: #bc4c00; background: #fff8f0 }
.charts { margin-top: 1.5em; display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start }
figure { margin: 0 } .charts figure { width: 380px } figure img { max-width: 100%; display: block }
.panel { margin: 0 0 1.5em; padding-bottom: 1em; border-bottom: 1px solid #eaeef2 }
.settings td { text-align: left; padding: .15em 2em .15em .4em } a { color: #0969da }
dt { font-weight: 600 } dd { margin: 0 0 .5em }
"""


def render(
    content: Mapping[str, Any],
    labels: Mapping[str, str],
    order: Sequence[int],
    pictures: Mapping[int, str],
    charts: Mapping[str, str],
) -> str:
    """Builds the document.

    Args:
      content: of report.json; None stands for undefined.
      labels: of the scores, by key, in the order of the columns.
      order: indices of images, those to look at first at the start.
      pictures: data URLs of panels by the index of their image, in the order to show them.
      charts: data URLs of charts by caption.
    """
    title = escape(content["title"])
    columns = {key: label for key, label in labels.items() if key in content["summary"]}
    parts = [
        f"<h1>{title}</h1>",
        _verdict(content),
        "<h2>Scores</h2>",
        _score_table(content, columns),
        _group_table(content["groups"], columns),
        '<div class="charts">',
        *(_figure(url, caption) for caption, url in charts.items()),
        "</div>",
        "<h2>How this was computed</h2>",
        _settings(content["settings"]),
        _panels(content["images"], pictures),
        "<h2>Every image</h2>",
        _image_table(content["images"], columns, order, pictures),
        "<h2>What the scores mean</h2><dl>",
        *(f"<dt>{escape(columns[k])}</dt><dd>{MEANINGS[k]}</dd>" for k in columns if k in MEANINGS),
        "</dl>",
    ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(
        [*parts, "</body></html>\n"]
    )


def best_baseline(content: Mapping[str, Any]) -> tuple[str, float] | None:
    """Name and mean Dice of the baseline with the highest mean Dice; None when there is none."""
    dice = {name: row.get("dice") for name, row in content["baselines"].items()}
    known = {name: value for name, value in dice.items() if value is not None}
    return max(known.items(), key=lambda item: item[1]) if known else None


def _verdict(content: Mapping[str, Any]) -> str:
    """One sentence: how good, and how much of it a trivial predictor reaches."""
    ours, best = content["summary"]["dice"], best_baseline(content)
    text = f"Mean Dice {_with_error(ours, ' ')} over {_images(ours['defined'])}."
    better = best is None or (ours["mean"] is not None and ours["mean"] > best[1])
    if best is not None:
        text += " For comparison:" if better else " <b>Not above a baseline:</b>"
        text += f" {escape(best[0])}, the best baseline, has {best[1]:.4f}."
    if empty := content["summary"].get("area_ratio", {}).get("undefined", 0):
        text += (
            f" Images where truth and prediction are both empty: {empty}; as in the authors' "
            "evaluation they count as Dice 0 and IoU 0."
        )
    return f'<p class="verdict{"" if better else " warning"}">{text}</p>'


def _score_table(content: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    summary = content["summary"]
    arrows = {key: "lower" if key in LOWER_IS_BETTER else "higher" for key in columns}
    header = [""] + [
        f'{escape(label)}<br><span class="small">{arrows[key]} is better</span>'
        for key, label in columns.items()
    ]
    ours = ["this run, mean ± standard error"] + [
        _with_error(summary[key], "<br>") + _left_out(summary[key]) for key in columns
    ]
    spread = ["standard deviation over images"] + [
        _number(summary[key]["standard_deviation"]) for key in columns
    ]
    rows = [("ours", ours), ("small", spread)]
    for name, row in content["baselines"].items():
        numbers = [_number(row.get(key)) for key in columns]
        rows.append(("", [f"baseline: {escape(name)}", *numbers]))
    return _table(header, rows)


def _group_table(groups: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    if not groups:
        return ""
    rows = [
        ("", [escape(name), str(means["images"]), *(_number(means[key]) for key in columns)])
        for name, means in groups.items()
    ]
    return "<h2>By group</h2>" + _table(["", "images", *map(escape, columns.values())], rows)


def _image_table(
    images: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    order: Sequence[int],
    pictures: Mapping[int, str],
) -> str:
    rows = []
    for i in order:
        name = escape(images[i]["name"])
        name = f'<a href="#image-{i}">{name}</a>' if i in pictures else name
        rows.append(("", [name, *(_number(images[i].get(key)) for key in columns)]))
    return _table(["image, lowest Dice first", *map(escape, columns.values())], rows)


def _panels(images: Sequence[Mapping[str, Any]], pictures: Mapping[int, str]) -> str:
    if not pictures:
        return ""
    some = f"{len(pictures)} of {len(images)} images; the lowest, then an even choice of the others"
    note = "All images" if len(pictures) == len(images) else some
    figures = [
        f'<figure class="panel" id="image-{i}"><img src="{url}" alt="{escape(images[i]["name"])}">'
        "</figure>"
        for i, url in pictures.items()
    ]
    heading = f'<h2>Look at these first</h2><p class="small">{note}, from the lowest Dice up.</p>'
    return heading + "\n".join(figures)


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [("", [escape(key), escape(str(value))]) for key, value in settings.items()]
    return f'<div class="settings">{_table([], rows)}</div>'


def _figure(url: str, caption: str) -> str:
    text = escape(caption)
    return f'<figure><figcaption>{text}</figcaption><img src="{url}" alt="{text}"></figure>'


def _table(header: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Cells are HTML already; a row is the class it has and its cells."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "\n".join(
        f'<tr class="{kind}">' + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for kind, row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def _number(value: float | None) -> str:
    return '<span class="undefined">undefined</span>' if value is None else f"{value:.4f}"


def _with_error(score: Mapping[str, Any], between: str) -> str:
    error = score["standard_error"]
    return _number(score["mean"]) + ("" if error is None else f"{between}± {error:.4f}")


def _images(n: int) -> str:
    return f"{n} image" if n == 1 else f"{n} images"


def _left_out(score: Mapping[str, Any]) -> str:
    n = score["undefined"]
    return f'<br><span class="undefined">undefined for {n}</span>' if n else ""
