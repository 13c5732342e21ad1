"""Joins what a user reads of a prediction: quality, area, count, objects, and what it holds for."""

import math
from typing import NamedTuple

import numpy as np

from segdiff_jax.certainty import doubtful as of_doubtful
from segdiff_jax.certainty import evidence as of_evidence
from segdiff_jax.certainty import objects as of_objects
from segdiff_jax.certainty import quantities, rating, strangers
from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.certainty.conformal import LEVELS
from segdiff_jax.certainty.doubtful import Doubtful
from segdiff_jax.certainty.evidence import Evidence
from segdiff_jax.certainty.of_classes import alone
from segdiff_jax.certainty.quality import Quality, QualityModel
from segdiff_jax.certainty.quantities import Interval, Measured
from segdiff_jax.errors import UserError
from segdiff_jax.evaluation.overlaps import sequential

UNKNOWN = Quality(float("nan"), float("nan"), float("nan"))
STRANGER = "unlike the pictures this was calibrated on"


class Objects(NamedTuple):
    """The objects of a mask; see `objects.Objects` for the other fields.

    Attributes:
      doubtful: objects of the mask whose confidence is below `Calibration.least`, the surest
        first, which the labels lack; then those that some samples hold and the mask does not.
      confidence: [N], probability that a true object has an IoU of at least 1/2 with it; nan where
        the run is not calibrated.
      classes: [N], the name of the class of each; "" where the network learnt no classes. If they
        overlap the labels are [C, H, W], with numbers that go on from class to class.
    """

    labels: np.ndarray
    area: np.ndarray
    probability: np.ndarray
    held: np.ndarray
    area_std: np.ndarray
    confidence: np.ndarray
    doubtful: tuple[Doubtful, ...] = ()
    classes: tuple[str, ...] = ()


class Answer(NamedTuple):
    """What is known of a picture besides its mask.

    Attributes:
      quality: the predicted Dice of the mask, with its 80 % interval.
      area, count: foreground pixels and number of objects, an interval for each of 0.5, 0.8, 0.95.
      unlike: statistics in which the picture is unlike those of the calibration: then nothing is
        promised; () if it is like them, or nothing is calibrated.
    """

    quality: Quality
    area: dict[float, Interval]
    count: dict[float, Interval]
    unlike: tuple[str, ...]


class RatedMask(NamedTuple):
    """How a mask from elsewhere compares with what the model expects.

    Attributes:
      dice: its predicted Dice with the truth, with the 80 % interval.
      surprise: mean Dice between samples less its mean Dice with them.
      suspicion: probability that it is wrong, if a tenth of annotations are.
      unlike: as of an `Answer`.
    """

    dice: Quality
    surprise: float
    suspicion: float
    unlike: tuple[str, ...]


def answer(found: Evidence, mask: np.ndarray, calibration: Calibration | None) -> Answer:
    """Answers for the predicted mask [H, W] of a picture; None: the run is not calibrated."""
    agreement, measured = of_evidence.agreement(found, mask), quantities.measure(found)
    return Answer(
        _quality(None if calibration is None else calibration.quality, agreement),
        _intervals(measured["area"], None if calibration is None else calibration.area),
        _intervals(measured["count"], None if calibration is None else calibration.count),
        _unlike(found, mask, agreement, calibration),
    )


def objects(found: Evidence, mask: np.ndarray, calibration: Calibration | None) -> Objects:
    """Returns the objects of a mask [H, W] of a picture, see `sure`.

    Of classes that overlap the mask is [C, H, W], that of each.
    """
    listed = of_objects.find(found, mask)
    line = None if calibration is None else calibration.confidence
    columns = listed.labels, listed.area, listed.probability, listed.held, listed.area_std
    doubtful = _doubtful(found, listed.labels)
    classes = ("",) * len(listed.area)
    if found.classes is not None:
        classes = tuple(found.classes.names[k - 1] for k in listed.classes.tolist())
    of_all = Objects(*columns, of_objects.confidence(listed, line), tuple(doubtful), classes)
    return sure(of_all, 0.0 if calibration is None else calibration.least)


def _doubtful(found: Evidence, labels: np.ndarray) -> list[Doubtful]:
    """Returns what only samples hold besides objects [H, W], or those of each class [C, H, W]."""
    if labels.ndim == 2 or found.classes is None:
        drawn = [*of_objects.of_decisions(found)]
        return of_doubtful.find(labels, drawn, found.probability)
    listed: list[Doubtful] = []
    for k, name in enumerate(found.classes.names, 1):
        own = sequential(labels[k - 1])
        listed += [one._replace(class_=name) for one in _doubtful(alone(found, k), own)]
    return sorted(listed, key=lambda one: -one.held)


def sure(of_all: Objects, least: float) -> Objects:
    """Returns objects of which those whose confidence is below `least` are doubtful."""
    kept = ~(of_all.confidence < least)
    if kept.all():
        return of_all
    number = np.cumsum([0, *kept]) * [True, *kept]
    known = of_all.probability, of_all.held, of_all.area_std, of_all.confidence
    unsure = of_doubtful.unsure(of_all.labels, *known, least, of_all.classes)
    classes = tuple(name for name, own in zip(of_all.classes, kept, strict=True) if own)
    return of_all._replace(
        labels=number[of_all.labels],
        area=of_all.area[kept],
        probability=of_all.probability[kept],
        held=of_all.held[kept],
        area_std=of_all.area_std[kept],
        confidence=of_all.confidence[kept],
        doubtful=(*unsure, *of_all.doubtful),
        classes=classes,
    )


def rated(found: Evidence, mask: np.ndarray, calibration: Calibration | None) -> RatedMask:
    """Rates a mask [H, W] of a picture."""
    agreement = of_evidence.agreement(found, mask)
    line = None if calibration is None else calibration.suspicion
    of_mask = rating.rate(found, mask, agreement, line)
    quality = _quality(None if calibration is None else calibration.rated, agreement)
    unlike = _unlike(found, mask, agreement, calibration)
    return RatedMask(quality, of_mask.surprise, of_mask.suspicion, unlike)


def _quality(model: QualityModel | None, agreement: dict[str, float]) -> Quality:
    return UNKNOWN if model is None else model(agreement)


def _unlike(
    found: Evidence, mask: np.ndarray, agreement: dict[str, float], calibration: Calibration | None
) -> tuple[str, ...]:
    """Returns in what a picture is a stranger; `agreement` is that of the mask."""
    if calibration is None or calibration.ranges is None:
        return ()
    own = found.probability > 0.5
    of_own_mask = agreement if np.array_equal(own, mask > 0) else of_evidence.agreement(found, own)
    return tuple(calibration.ranges.unlike(strangers.statistics(found, of_own_mask)))


def _intervals(measured: Measured, model: quantities.IntervalModel | None) -> dict[float, Interval]:
    if model is not None:
        return model(measured)
    value = measured.centres["mask"]
    return {level: Interval(value, float("nan"), float("nan")) for level in LEVELS}


def bounds(
    probability: np.ndarray, risk: float, calibration: Calibration | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the inner and the outer mask of a risk, uint8 of the shape of the probability.

    Raises:
      UserError: there is no calibration, or not with enough pictures for this risk.
    """
    inner, outer = risk_thresholds(risk, calibration)
    return (probability > inner).astype(np.uint8), (probability > outer).astype(np.uint8)


def risk_thresholds(risk: float, calibration: Calibration | None) -> tuple[float, float]:
    """Returns the thresholds of the inner and the outer mask of a risk; raises as `bounds`."""
    if calibration is None or calibration.risk is None:
        raise UserError(f"risk={risk}: the run is not calibrated; segdiff calibrate does it")
    found = calibration.risk.inner(risk), calibration.risk.outer(risk)
    if found[0] is None or found[1] is None:
        n, needed = calibration.n, math.ceil(1 / risk - 1 - 1e-9)
        raise UserError(f"risk={risk}: not calibrated; {n} pictures, it takes more than {needed}")
    return found[0], found[1]
