"""Answers for a picture at a threshold, without the network: objects, how sure, what to look at."""

import math
from typing import NamedTuple

import numpy as np

from segdiff_jax.app.predicted import Predicted
from segdiff_jax.certainty import answers
from segdiff_jax.certainty.answers import Objects
from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.certainty.quality import LEVEL
from segdiff_jax.data.classes import decided, decided_each, members, pack
from segdiff_jax.data.image_io.pixel_size import Scale
from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.evaluation.sample_scores import soft_dice_confidence
from segdiff_jax.prediction import object_outputs
from segdiff_jax.prediction.object_files import Colours, Outlined
from segdiff_jax.prediction.object_outputs import MAX_PIXELS, ObjectMaps
from segdiff_jax.prediction.object_table import DOUBTFUL, Row
from segdiff_jax.prediction.output_maps import UINT16_MAX


class Line(NamedTuple):
    """What the list of pictures says of one.

    Attributes:
      threshold: of the mask.
      dice: predicted Dice of the mask with the truth; if `calibrated`, by the calibration, with the
        80 % interval `low` to `high`; if not, the one that the probability expects of it.
      objects: their number, with the 80 % interval; nan where it is not known.
      share: of the pixels that are foreground.
      unlike: in what the picture is unlike those of the calibration.
    """

    threshold: float
    calibrated: bool
    dice: float
    low: float
    high: float
    objects: int
    objects_low: float
    objects_high: float
    share: float
    unlike: tuple[str, ...]


class Answered(NamedTuple):
    """Everything about a picture at a threshold.

    Attributes:
      line: for the list.
      mask: [H, W] uint8 of 0 and 255.
      labels: [H, W] int64, 0 is background; of each class that overlaps, [C, H, W].
      known: the objects, with how sure each is; None: the picture is too large for it.
      objects: measured and outlined, those of the mask and the doubtful ones.
      colours: RGB by the name of a class; {}: there are none.
    """

    line: Line
    mask: np.ndarray
    labels: np.ndarray
    known: Objects | None
    objects: list[Outlined]
    colours: Colours


def answer(
    found: Predicted,
    drawn: Predicted | None,
    threshold: float,
    calibration: Calibration | None,
    of: tuple[str, Scale | None],
) -> Answered:
    """Answers for a picture.

    Args:
      found: what was predicted.
      drawn: the same with samples, by which agreement and doubtful objects are known; None: no
        samples were drawn.
      threshold: of the probability, in 0..1.
      calibration: that holds for `found`; None: there is none.
      of: name and scale of the picture.

    Raises:
      UserError: the picture is too large for objects.
    """
    mask = (found.shown > threshold) * np.uint8(255)
    if mask.size > MAX_PIXELS:
        raise UserError(f"its {mask.size} pixels are more than {MAX_PIXELS}, the most", BAD_DATA)
    maps = _maps(found, mask, threshold)
    of_objects = mask > 0
    if found.overlap and maps.classes is not None:
        of_objects = members(maps.classes, len(found.names))
    known = _known(found, drawn, of_objects, calibration)
    labels = maps.labelled() if known is None else known.labels
    classes = maps.classes_of(labels) if known is None else known.classes
    name, scale = of
    objects = object_outputs.measured(labels, maps.of_objects, known, scale, name, classes)
    line = _line(found, mask, threshold, calibration, labels)
    return Answered(line, mask, labels, known, objects, maps.colours)


def _maps(found: Predicted, mask: np.ndarray, threshold: float) -> ObjectMaps:
    """Returns the maps that objects are made of."""
    classes = None if found.shares is None else decided(mask > 0, found.shares)
    if found.overlap and found.shares is not None:
        classes = pack([*decided_each(mask > 0, found.shares, threshold * UINT16_MAX)])
    more = found.interior, classes, found.shares, found.names, found.by_distance, found.overlap
    return ObjectMaps(mask, found.probability, *more)


def _known(
    found: Predicted, drawn: Predicted | None, mask: np.ndarray, calibration: Calibration | None
) -> Objects | None:
    """Returns the objects of a mask: confidence of the one prediction, agreement of the other."""
    if found.evidence is None:
        return None
    if drawn is None or drawn.evidence is None:
        return answers.objects(found.evidence, mask, calibration)
    of_all = None if calibration is None else calibration._replace(least=0.0)
    own = answers.objects(found.evidence, mask, of_all)
    of_samples = answers.objects(drawn.evidence, mask, None)
    more = {"held": of_samples.held, "area_std": of_samples.area_std}
    joined = own._replace(**more, doubtful=of_samples.doubtful)
    return joined if calibration is None else answers.sure(joined, calibration.least)


def _line(
    found: Predicted,
    mask: np.ndarray,
    threshold: float,
    calibration: Calibration | None,
    labels: np.ndarray,
) -> Line:
    inside, share = mask > 0, float(np.count_nonzero(mask) / mask.size)
    count, nan = int(labels.max(initial=0)), math.nan
    if found.evidence is not None and calibration is not None:
        of = answers.answer(found.evidence, inside, calibration)
        number = of.count[LEVEL]
        if not math.isnan(of.quality.dice):
            dice = of.quality.dice, of.quality.low, of.quality.high
            return Line(threshold, True, *dice, count, number.low, number.high, share, of.unlike)
    dice = soft_dice_confidence(found.shown, inside)
    return Line(threshold, False, dice, nan, nan, count, nan, nan, share, ())


def sureness(row: Row) -> float:
    """Returns how probable it is that the answer about an object is right, in 0..1.

    Of an object of the mask: its confidence, its agreement or its mean probability, the first that
    is known. A doubtful one was left out: it is right if it is none.
    """
    if row.status == DOUBTFUL:
        return 1 - (row.agreement if math.isnan(row.confidence) else row.confidence)
    known = (row.confidence, row.agreement, row.probability)
    return next(value for value in known if not math.isnan(value))


def look_first(objects: list[Outlined]) -> list[Row]:
    """Returns the lines of objects, those first that a person should look at first."""
    rows = [one.row for one in objects]
    return sorted(rows, key=lambda row: (sureness(row), -row.area, row.label))
