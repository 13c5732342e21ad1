"""Foreground area and number of objects of a picture, with intervals that hold.

Normalised split conformal prediction: the error of each annotated picture is divided by a scale
that says how uncertain the picture is, and a quantile of these ratios makes the interval. The scale
is the variance of the pixels, a sum of p (1 - p), unless the interval score of another one, or of
another centre, is clearly better on the pictures of the fit, each with the quantile of the others.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segdiff_jax.certainty import conformal
from segdiff_jax.certainty.evidence import Evidence
from segdiff_jax.evaluation import interval_scores
from segdiff_jax.evaluation.sample_scores import expected_area, object_counts

QUANTITIES = ("area", "count")
CHOSEN_AT = 0.8  # level of the interval whose score decides
CONSTANT, VARIANCE = "constant", "p(1-p)"
CLEARLY = 0.8  # share of the usual pair's score below which another pair is taken


class Measured(NamedTuple):
    """What the evidence says about a quantity of a picture.

    Attributes:
      centres: estimates, by name.
      scales: of its error, above 0, by name.
      largest: that it can have.
    """

    centres: dict[str, float]
    scales: dict[str, float]
    largest: float


class Interval(NamedTuple):
    """A quantity of a picture; `low` and `high` are nan where the level is not calibrated."""

    value: float
    low: float
    high: float


class IntervalModel(NamedTuple):
    """A conformal fit of a quantity.

    Attributes:
      centre, scale: names of the chosen ones.
      width: conformal quantile of |error| / scale, by level; None: too few pictures.
      whole: whether the quantity is a whole number.
      n: pictures of the fit.
    """

    centre: str
    scale: str
    width: dict[float, float | None]
    whole: bool
    n: int

    def __call__(self, measured: Measured) -> dict[float, Interval]:
        """Returns the intervals by level."""
        value, scale = measured.centres[self.centre], measured.scales[self.scale]
        found = {}
        for level, width in self.width.items():
            if width is None:
                found[level] = Interval(value, float("nan"), float("nan"))
                continue
            low = float(np.clip(value - width * scale, 0, measured.largest))
            high = float(np.clip(value + width * scale, 0, measured.largest))
            if self.whole:  # the same whole numbers lie within
                low = np.ceil(low - 1e-9) + 0.0  # which is no -0
                high = max(low, np.floor(high + 1e-9))
            found[level] = Interval(value, float(low), float(high))
        return found


def measure(found: Evidence) -> dict[str, Measured]:
    """Returns what the evidence of a picture says, by quantity."""
    p = found.probability.astype(np.float64)
    doubt, pixels = float(np.sum(p * (1 - p))), p.size
    areas = {"probability": float(p.sum()), "mask": float(np.count_nonzero(p > 0.5))}
    of, maps = found.interiors, found.classes
    whole = None if of is None else of.probability[None]
    kinds = None if maps is None else maps.of(np.ones(p.shape, bool))[None]
    overlap = 0 if maps is None or not maps.overlap else len(maps.names)
    way = {"by_distance": found.by_distance, "overlap": overlap}
    counts = {"mask": float(object_counts(p[None], interiors=whole, classes=kinds, **way)[0])}
    area_scales = {CONSTANT: 1.0, VARIANCE: 1 + doubt}
    count_scales = {CONSTANT: 1.0, VARIANCE: 1 + doubt, "root": np.sqrt(1 + counts["mask"])}
    sets = {"samples": found.samples, "decisions": found.decisions}
    sets |= {"passes": found.passes} if len(found.passes) > 1 else {}
    for name, masks in sets.items():
        if masks is None:
            continue
        interiors = None if of is None else of.passes if name == "passes" else of.decisions
        kinds = None if maps is None else maps.passes if name == "passes" else maps.decisions
        of_count = object_counts(masks, interiors=interiors, classes=kinds, **way)
        of_area = expected_area(masks)
        areas[name], counts[name] = float(of_area.mean()), float(of_count.mean())
        area_scales[name] = 1 + float(of_area.std(ddof=1))
        count_scales[name] = 1 + float(of_count.std(ddof=1))
        area_scales[f"p(1-p), {name}"] = float(np.sqrt(area_scales[name] * (1 + doubt)))
    return {
        "area": Measured(areas, area_scales, pixels),
        "count": Measured(counts, {k: float(v) for k, v in count_scales.items()}, pixels),
    }


def fit(measured: Sequence[Measured], truth: Sequence[float], whole: bool) -> IntervalModel | None:
    """Fits the intervals of a quantity; None if there are too few pictures for any level."""
    if len(truth) < conformal.fewest(min(conformal.LEVELS)) + 1:
        return None
    y = np.asarray(truth, np.float64)
    centre, scale = _choice(measured, y, whole)
    error, scales, _ = _ratios(measured, y, centre, scale)
    return IntervalModel(centre, scale, conformal.quantiles(error / scales), whole, len(y))


def fit_as(
    measured: Sequence[Measured], truth: Sequence[float], whole: bool, centre: str, scale: str
) -> IntervalModel:
    """Fits the intervals with a given centre and scale, for comparison."""
    error, scales, _ = _ratios(measured, np.asarray(truth, np.float64), centre, scale)
    return IntervalModel(centre, scale, conformal.quantiles(error / scales), whole, len(truth))


def _choice(measured: Sequence[Measured], truth: np.ndarray, whole: bool) -> tuple[str, str]:
    """Returns the names of the centre and the scale."""
    centres = measured[0].centres
    usual = "samples" if whole and "samples" in centres else next(iter(centres)), VARIANCE
    pairs = itertools.product(centres, measured[0].scales)
    scores = {pair: _score(_ratios(measured, truth, *pair), whole) for pair in pairs}
    best = min(scores, key=lambda pair: scores[pair])
    return best if scores[best] < CLEARLY * scores[usual] else usual


def _ratios(
    measured: Sequence[Measured], truth: np.ndarray, centre: str, scale: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns absolute errors, scales and centres, [n] each."""
    centres = np.array([one.centres[centre] for one in measured])
    return np.abs(centres - truth), np.array([one.scales[scale] for one in measured]), centres


def _score(ratios: tuple[np.ndarray, np.ndarray, np.ndarray], whole: bool) -> float:
    """Computes the mean interval score of pictures, each with the quantile of the others."""
    error, scale, centre = ratios
    level = CHOSEN_AT if len(error) > conformal.fewest(CHOSEN_AT) else min(conformal.LEVELS)
    half = conformal.left_out(error / scale, level) * scale
    half = np.floor(half) if whole else half
    return interval_scores.scores(-half, half, error, level).score
