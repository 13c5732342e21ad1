"""Area and number of objects of each class of a picture, with intervals that hold.

They are those of `quantities` for the evidence of one class alone: probability, passes, samples and
decisions where the class is the highest, and nothing elsewhere. Of classes that overlap they are
those of the class, with its decisions as samples: the foreground's do not say which class it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segdiff_jax.certainty import quantities
from segdiff_jax.certainty.conformal import LEVELS
from segdiff_jax.certainty.evidence import Evidence
from segdiff_jax.certainty.quantities import Interval, IntervalModel, Measured
from segdiff_jax.data.classes import member

Models = dict[str, dict[str, IntervalModel | None]]  # by class and quantity
WHOLE = {"area": False, "count": True}  # quantities that are whole numbers


class Observed(NamedTuple):
    """What a fit needs of one class of an annotated picture, by quantity."""

    measured: dict[str, Measured]
    truth: dict[str, float]


class OfClass(NamedTuple):
    """Pixels and number of objects of a class, an interval for each of 0.5, 0.8, 0.95."""

    area: dict[float, Interval]
    count: dict[float, Interval]


def alone(found: Evidence, k: int) -> Evidence:
    """Returns the evidence of the k-th class, from 1, of a picture whose network learnt classes."""
    of = found.classes
    assert of is not None
    if of.overlap:
        own = None if of.decisions is None else member(of.decisions, k, True)
        passes = member(of.passes, k, True).astype(np.float32)
        kept = {"probability": of.shares[k - 1], "passes": passes, "samples": own}
        return found._replace(**kept, decisions=own, classes=None)
    p = np.where(np.argmax(of.shares, axis=0) + 1 == k, found.probability, 0)
    samples, decisions = found.samples, found.decisions
    if of.decisions is not None and samples is not None and decisions is not None:
        samples, decisions = samples & (of.decisions == k), decisions & (of.decisions == k)
    passes = np.where(of.passes == k, found.passes, 0)
    kept = {"probability": p, "passes": passes, "samples": samples, "decisions": decisions}
    return found._replace(**kept, classes=None)


def observe(found: Evidence, true: np.ndarray | None, labels: np.ndarray) -> dict[str, Observed]:
    """Returns what a fit needs, by class; {} where evidence or truth has no classes.

    Args:
      found: of maps as large as the truth.
      true: class map [H, W].
      labels: of the true objects, each of one class, see `Evidence.true_objects`.
    """
    if found.classes is None or true is None:
        return {}
    rows = {}
    for k, name in enumerate(found.classes.names, 1):
        own = member(true, k, found.classes.overlap)
        of_class = labels[k - 1] if found.classes.overlap else labels[own]
        count = float(np.count_nonzero(np.unique(of_class)))
        truth = {"area": float(np.count_nonzero(own)), "count": count}
        rows[name] = Observed(quantities.measure(alone(found, k)), truth)
    return rows


def fit(rows: Sequence[dict[str, Observed]]) -> Models:
    """Fits the intervals of each class on the same pictures; a part is None if they are too few."""
    names = rows[0] if rows else {}
    return {
        name: {
            key: quantities.fit(
                [row[name].measured[key] for row in rows],
                [row[name].truth[key] for row in rows],
                whole,
            )
            for key, whole in WHOLE.items()
        }
        for name in names
    }


def intervals(found: Evidence, models: Models) -> dict[str, OfClass]:
    """Returns area and count by class; nan as bounds where nothing is calibrated."""
    if found.classes is None:
        return {}
    answers = {}
    for k, name in enumerate(found.classes.names, 1):
        measured = quantities.measure(alone(found, k))
        parts = {key: _of(measured[key], models.get(name, {}).get(key)) for key in WHOLE}
        answers[name] = OfClass(parts["area"], parts["count"])
    return answers


def _of(measured: Measured, model: IntervalModel | None) -> dict[float, Interval]:
    if model is not None:
        return model(measured)
    unknown = Interval(measured.centres["mask"], float("nan"), float("nan"))
    return dict.fromkeys(LEVELS, unknown)
