"""Renders HTML pages that refer to no other file or host; all inserted text is escaped."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from segdiff_jax.errors import printable
from segdiff_jax.evaluation import class_scores, object_scores
from segdiff_jax.evaluation.class_colours import COLOURS

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
    "annotator_dice": "Of the predicted mask; two empty masks have 1, here and below.",
    "mutual_dice": "Of each pair of annotators.",
    "ncc": "Correlation of the variance p (1 - p) of the probability with that of the annotators; "
    "undefined where they agree.",
    "ged_squared": "Squared generalised energy distance of samples and annotators, d = 1 - IoU, "
    "all pairs. Lower is better.",
    "hm_iou": "IoU of samples and annotators matched one to one.",
    "d_max": "Dice of each annotator with the nearest sample.",
    "whole": "Share of faint objects that a sample has whole or not at all; of the law 1.",
    "taken": "Share of samples that have a faint object; of the law 0.5.",
    "area_std": "Standard deviation of the area over samples, pixels.",
    "area_std_exact": "The same of as many exact samples.",
    "coverage": "Share of exact samples whose area is between the 10 % and 90 % quantiles of the "
    "samples' areas.",
    "coverage_exact": "The same of as many exact samples.",
    "ap50": "Hits at an IoU of 0.5 over hits, missed and false objects together: the average "
    "precision of the Data Science Bowl 2018 and of StarDist.",
    "ap75": "The same at 0.75.",
    "ap": "Mean of the same at 0.5, 0.55, ..., 0.95.",
    "pq": "Panoptic quality, SQ times RQ.",
    "sq": "Mean IoU of the hits at 0.5.",
    "rq": "F1 of the objects at 0.5.",
    "aji": "Aggregated Jaccard index.",
    "true_objects": "In the truth.",
    "found_objects": "In the predicted mask.",
    "split": "True objects in which several predicted ones lie by more than half of themselves.",
    "merged": "Predicted objects in which several true ones lie so.",
    "missed": "True objects that lie in none, and none in them.",
    "added": "Such predicted ones.",
}
TEMPLATES = Environment(
    loader=PackageLoader("segdiff_jax", ""),
    autoescape=True,
    finalize=lambda value: printable(value) if type(value) is str else value,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render_template(name: str, **values: Any) -> str:
    """Renders a template of this package, such as "evaluation/report.html.j2"."""
    return TEMPLATES.get_template(name).render(values)


def render(
    content: Mapping[str, Any],
    labels: Mapping[str, str],
    order: Sequence[int],
    pictures: Mapping[int, str],
    charts: Mapping[str, str],
) -> str:
    """Renders the page of an evaluation.

    Args:
      content: of report.json; None stands for undefined.
      labels: of the scores, by key, in the order of the columns.
      order: indices of the images in the order of the table.
      pictures: data URLs of panels by the index of their image, in the order to show them.
      charts: data URLs of charts by caption.
    """
    baseline, mean = best_baseline(content), content["summary"]["dice"]["mean"]
    return render_template(
        "evaluation/report.html.j2",
        title=content["title"],
        content=content,
        columns={key: label for key, label in labels.items() if key in content["summary"]},
        further={key: label for key, label in labels.items() if key in content["further"]},
        object_labels=object_scores.LABELS,
        class_labels=class_scores.LABELS,
        class_colours=COLOURS,
        order=order,
        pictures=pictures,
        charts=charts,
        baseline=baseline,
        better=baseline is None or (mean is not None and mean > baseline[1]),
        meanings=MEANINGS,
        lower_is_better=LOWER_IS_BETTER,
    )


def best_baseline(content: Mapping[str, Any]) -> tuple[str, float] | None:
    """Returns name and mean Dice of the baseline with the highest mean Dice, or None."""
    dice = {name: row.get("dice") for name, row in content["baselines"].items()}
    known = {name: value for name, value in dice.items() if value is not None}
    return max(known.items(), key=lambda item: item[1]) if known else None
