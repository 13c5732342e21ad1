"""Fits everything that certainty needs on annotated pictures that no network was trained on."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from segdiff_jax.certainty import (
    evidence,
    objects,
    of_classes,
    pixels,
    quality,
    quantities,
    rating,
    risk,
    strangers,
)
from segdiff_jax.certainty.evidence import Evidence
from segdiff_jax.certainty.pixels import PixelModel
from segdiff_jax.certainty.quality import QualityModel
from segdiff_jax.certainty.regression import Linear
from segdiff_jax.certainty.risk import RiskModel
from segdiff_jax.checkpoint import run_data
from segdiff_jax.data.digests import digests
from segdiff_jax.data.example import Example
from segdiff_jax.evaluation import object_scores, pixel_scores
from segdiff_jax.evaluation.sample_scores import dice
from segdiff_jax.inference.predictor import Predictor
from segdiff_jax.runtime import watchdog

WHOLE = {"area": False, "count": True}  # quantities that are whole numbers


class Observation(NamedTuple):
    """What a fit, or a score, needs of an annotated picture; no image.

    Attributes:
      name: of the picture.
      agreement: of the predicted mask with the evidence, see `evidence.agreement`.
      dice: of the predicted mask with the truth; two empty masks have 1.
      measured: estimates and scales of each quantity.
      truth: the true quantities.
      objects: of the predicted mask, without their labels.
      right: [N] bool, which of them are true.
      scored: what their scores are made of.
      counts: [2, 2, LEVELS], see `pixel_scores.count`.
      statistics: of the picture, see `strangers`.
      spoilt: features of spoilt annotations and of the right one, see `rating.spoilt_features`.
      others: agreement and Dice of other masks of the picture, and whether a mask is likely, see
        `rating.other_masks`.
      classes: measured and true quantities of each class, see `of_classes`.
    """

    name: str
    agreement: dict[str, float]
    dice: float
    measured: dict[str, quantities.Measured]
    truth: dict[str, float]
    objects: objects.Objects
    right: np.ndarray
    scored: object_scores.Counts
    counts: np.ndarray
    statistics: dict[str, float]
    spoilt: dict[str, dict[str, float]]
    others: list[tuple[dict[str, float], float, bool]]
    classes: dict[str, of_classes.Observed] = {}


class Calibration(NamedTuple):
    """A fit; a part is None where there were too few pictures, objects or errors for it.

    Attributes:
      quality: of the predicted Dice.
      rated: of the Dice of masks from elsewhere.
      area, count: of their intervals.
      confidence: of an object, log odds.
      least: the confidence below which an object of the mask is doubtful, see `objects.least`.
      pixels: of the probability and the threshold.
      risk: of inner and outer masks.
      suspicion: that an annotation is wrong, log odds.
      ranges: of the pictures.
      n: pictures.
      fingerprint: of their names, their annotations and images, see `run_data.fingerprint`.
      source: where they come from, for people.
      classes: of the intervals of each class.
    """

    quality: QualityModel | None
    rated: QualityModel | None
    area: quantities.IntervalModel | None
    count: quantities.IntervalModel | None
    confidence: Linear | None
    pixels: PixelModel | None
    risk: RiskModel | None
    suspicion: Linear | None
    ranges: strangers.Ranges | None
    n: int
    fingerprint: str
    source: str
    classes: of_classes.Models = {}
    least: float = 0.0


def observe(
    name: str,
    found: Evidence,
    truth: np.ndarray,
    labels: np.ndarray | None = None,
    classes: np.ndarray | None = None,
) -> Observation:
    """Returns what a score needs of an annotated picture: all but `spoilt` and `others`.

    Args:
      name: of the picture.
      found: its evidence, of maps as large as the truth.
      truth: mask [H, W].
      labels: [H, W] integers, its objects, 0 is background; None: they are its components.
      classes: class map [H, W]; None: it has no classes.
    """
    own = found.true_objects(truth, labels, classes)
    return observe_objects(name, found, truth, objects.find(found, found.half), own, classes)


def observe_objects(
    name: str,
    found: Evidence,
    truth: np.ndarray,
    of_mask: objects.Objects,
    own: np.ndarray,
    classes: np.ndarray | None = None,
) -> Observation:
    """Returns the same by objects that are known: of the mask, and labels of the truth."""
    mask, true = found.probability > 0.5, np.asarray(truth, bool)
    agreement = evidence.agreement(found, mask)
    return Observation(
        name,
        agreement,
        dice(mask, true),
        quantities.measure(found),
        {"area": float(true.sum()), "count": float(own.max(initial=0))},
        of_mask._replace(labels=np.zeros((0, 0), np.int64)),
        objects.right(of_mask, own),
        object_scores.count(of_mask.labels, own),
        pixel_scores.count(found.probability, true),
        strangers.statistics(found, agreement),
        {},
        [],
        of_classes.observe(found, classes, own),
    )


def learn(
    name: str,
    found: Evidence,
    truth: np.ndarray,
    other: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    classes: np.ndarray | None = None,
) -> Observation:
    """Returns what a fit needs of an annotated picture; arguments as those of `observe`.

    `other` is an annotation of another picture of this size, to learn what a wrong one looks like.
    """
    seed, true = zlib.crc32(name.encode()), np.asarray(truth, bool)
    masks = rating.other_masks(found, other, seed)
    return observe(name, found, truth, labels, classes)._replace(
        spoilt=rating.spoilt_features(found, true, other, seed),
        others=[
            (evidence.agreement(found, mask), dice(mask, true), likely) for mask, likely in masks
        ],
    )


def fit_examples(
    predictor: Predictor, examples: Sequence[Example], key: jax.Array, source: str
) -> Calibration:
    """Predicts examples and fits all parts on them; `source` says where they come from."""
    observed = [
        learn(
            *(example.name, found, example.mask, _neighbour(examples, i)),
            *(example.objects, example.classes),
        )
        for i, (example, found) in enumerate(predicted(predictor, examples, key))
    ]
    return fit(observed, run_data.fingerprint(digests(examples)), source)


def predicted(
    predictor: Predictor, examples: Sequence[Example], key: jax.Array
) -> Iterator[tuple[Example, Evidence]]:
    """Predicts examples and yields each with its evidence."""
    images = [example.image for example in examples]
    for example, rows in zip(examples, predictor(images, key), strict=True):
        size = example.mask.shape
        yield example, evidence.evidence(example.image, rows, predictor.random, size)
        watchdog.heartbeat(f"the prediction for {example.name}")


def _neighbour(examples: Sequence[Example], place: int) -> np.ndarray | None:
    """Returns the mask of the next example of the same size that marks something; None: none."""
    shape = examples[place].mask.shape
    later = (*examples[place + 1 :], *examples[:place])
    return next((one.mask for one in later if one.mask.shape == shape and one.mask.any()), None)


def fit(observed: Iterable[Observation], fingerprint: str = "", source: str = "") -> Calibration:
    """Fits all parts on the same pictures."""
    rows = list(observed)
    intervals = {
        name: quantities.fit([r.measured[name] for r in rows], [r.truth[name] for r in rows], whole)
        for name, whole in WHOLE.items()
    }
    whole_image = [row.counts.sum(axis=0) for row in rows]
    listed, right = [row.objects for row in rows], [row.right for row in rows]
    line = objects.fit(listed, right)
    return Calibration(
        quality.fit([row.agreement for row in rows], [row.dice for row in rows]),
        quality.fit(
            [agreement for row in rows for agreement, _, _ in row.others],
            [dice for row in rows for _, dice, _ in row.others],
            [i for i, row in enumerate(rows) for _ in row.others],
            [likely for row in rows for _, _, likely in row.others],
        ),
        intervals["area"],
        intervals["count"],
        line,
        pixels.fit(whole_image),
        risk.fit(whole_image),
        rating.fit([row.spoilt for row in rows if row.spoilt]),
        strangers.fit([row.statistics for row in rows]),
        len(rows),
        fingerprint,
        source,
        of_classes.fit([row.classes for row in rows]),
        objects.least(listed, right, [row.truth["count"] for row in rows], line),
    )
