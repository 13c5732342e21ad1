"""Logs what a user should know of predicted images: cost, ranges, sizes, which to look at first."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import logging

from segdiff_jax.certainty.answers import STRANGER, Objects
from segdiff_jax.evaluation import object_sizes
from segdiff_jax.prediction import summary
from segdiff_jax.prediction.object_outputs import ObjectMaps
from segdiff_jax.prediction.summary import Row

NAMED_FOR_REVIEW = 5  # images that the log names at the end
MAX_PIXELS = 2**24  # of an image whose objects are found for their size alone


def values(rows: Sequence[Row]) -> None:
    """Logs how many images have more than 8 bits, and what became black and white in the first."""
    if deep := [row for row in rows if row.values]:
        first = f"{deep[0].name}: {deep[0].values}"
        logging.info("%d images of more than 8 bits; values in summary.csv; %s", len(deep), first)
    for row in [row for row in deep if "it is dark" in row.values][:NAMED_FOR_REVIEW]:
        logging.warning("%s: %s", row.name, row.values)


def cost(rows: Sequence[Row]) -> None:
    """Logs the mean time of an image, and how many samples were drawn of each."""
    if rows:
        seconds = sum(row.seconds for row in rows) / len(rows)
        counts = [row.samples for row in rows]
        drawn = f", {sum(counts) / len(rows):.1f} samples of each" if any(counts) else ""
        logging.info("%d images, %.2f s each%s", len(rows), seconds, drawn)


def review_order(path: Path, rows: Iterable[Row]) -> None:
    """Logs where the summary is, and the images that most need a human's review."""
    rows = sorted(rows, key=lambda row: row.review_rank)
    logging.info("%s: %d images; a human should look first at", path, len(rows))
    for row in rows[:NAMED_FOR_REVIEW]:
        share, objects = 100 * row.foreground_share, summary.counted(row)
        found = row.review_rank, row.name, *summary.quality(row), share, objects
        logging.info("  %d. %s: %s %.3f, foreground %.1f %%%s", *found)
    if strangers := [row.name for row in rows if row.unlike]:
        logging.warning("%d images are %s: %s", len(strangers), STRANGER, ", ".join(strangers[:10]))


def size(name: str, maps: ObjectMaps, objects: Objects | None, trained: float) -> None:
    """Logs a line if the objects of an image are far from those of the training.

    Args:
      name: of the image.
      maps: of the image, which say what its objects are.
      objects: these, if they are known; of a large image without them nothing is said.
      trained: median diameter of the objects of the training, pixels.
    """
    if maps.overlap or (objects is None and maps.mask.size > MAX_PIXELS):
        return  # those of classes that overlap are of several sizes
    labels = maps.labelled() if objects is None else objects.labels
    if (scale := object_sizes.factor(labels, trained)) is not None:
        found = f"its objects measure {trained / scale:.3g} pixels, those of the training"
        logging.warning("%s: %s %.3g: try --scale=%.2g", name, found, trained, scale)
