"""Scores the certainty of predictions on annotated pictures: pixels, objects, pictures, numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from segdiff_jax.certainty import risk as of_risk
from segdiff_jax.certainty.calibration import WHOLE, Calibration, Observation
from segdiff_jax.certainty.conformal import LEVELS
from segdiff_jax.certainty.objects import confidence
from segdiff_jax.certainty.quality import LEVEL, Quality
from segdiff_jax.evaluation import interval_scores, pixel_scores, ranking_scores

RISKS = (0.05, 0.1)
REMOVAL = tuple(round(0.01 * i, 2) for i in range(31))  # shares of pixels deferred, of the plot
Scores = dict[str, Any]


def scores(observed: Sequence[Observation], fitted: Calibration | None) -> Scores:
    """Returns all scores of a split, of types that JSON has but for nan.

    Args:
      observed: the pictures; the calibration must not be fitted on them.
      fitted: the calibration; None: scores of predicted Dice, intervals and risk are left out.
    """
    counts = np.sum([one.counts for one in observed], axis=0, dtype=np.int64)
    return {
        "pictures": len(observed),
        "calibration": None if fitted is None else {"source": fitted.source, "n": fitted.n},
        "pixels": of_pixels(counts, fitted),
        "quality": of_pictures(observed, fitted),
        "objects": of_objects(observed, fitted),
        "intervals": {} if fitted is None else of_intervals(observed, fitted),
        "risk": {} if fitted is None else of_risks(observed, fitted),
    }


def of_pixels(counts: np.ndarray, fitted: Calibration | None) -> Scores:
    """Returns the scores of counted pixels [2, 2, LEVELS] by region, and of calibrated ones."""
    regions = {"image": counts.sum(axis=0), "band": counts[1]}
    p = pixel_scores.probability_of_levels()
    kinds = {"": p}
    if fitted is not None and fitted.pixels is not None:
        kinds[", calibrated"] = fitted.pixels(p)
    found: Scores = {}
    for region, of in regions.items():
        for kind, probability in kinds.items():
            one = pixel_scores.scores(of, probability)
            row = one._asdict() | one.detection._asdict()
            row |= {f"removed{100 * share:g}": x for share, x in _removed(one.removed)}
            del row["detection"], row["removed"]
            found[region + kind] = row | {"bins": pixel_scores.bins(of, probability).tolist()}
        u = p * (1 - p)
        wrong, right = np.where(p > 0.5, of, of[::-1])
        curve = [ranking_scores.removed(u, wrong, right, share) for share in REMOVAL]
        found[region]["removal"] = curve
    return found


def _removed(values: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(pixel_scores.DEFERRED, values, strict=True))


def of_pictures(observed: Sequence[Observation], fitted: Calibration | None) -> Scores:
    """Returns how well pictures are ranked by their predicted Dice, and how true that is.

    Without a calibration they are ranked by the best agreement there is.
    """
    true = np.array([one.dice for one in observed])
    rows: list[Quality] = []
    if fitted is not None and fitted.quality is not None:
        rows = [fitted.quality(one.agreement) for one in observed]
        confidences = np.array([row[0] for row in rows])
    else:
        confidences = np.array([_agreement(one) for one in observed])
    ranked = ranking_scores.risk_coverage(confidences, 1 - true)
    found = ranked._asdict() | {"spearman": ranking_scores.spearman(confidences, true)}
    found["curve"] = ranking_scores.curve(confidences, 1 - true).tolist()
    found["best_curve"] = ranking_scores.curve(true, 1 - true).tolist()
    if rows:
        _, low, high = np.array(rows).T
        found["mean_error"] = float(np.mean(np.abs(confidences - true)))
        found["coverage"] = float(np.mean((low <= true) & (true <= high)))
        found["width"] = float(np.mean(high - low))
        found["predicted"] = [list(row) for row in rows]
        found["true"] = true.tolist()
    return found


def _agreement(one: Observation) -> float:
    return next(one.agreement[k] for k in ("samples", "passes", "expected") if k in one.agreement)


def of_objects(observed: Sequence[Observation], fitted: Calibration | None) -> Scores:
    """Returns how well right objects are separated from wrong ones."""
    right = np.concatenate([one.right for one in observed])
    columns = {"mean probability": [one.objects.probability for one in observed]}
    columns["passes"] = [one.objects.passes for one in observed]
    columns["samples"] = [one.objects.overlap for one in observed]
    if fitted is not None and fitted.confidence is not None:
        columns["confidence"] = [confidence(one.objects, fitted.confidence) for one in observed]
    found: Scores = {"objects": len(right), "right": int(np.count_nonzero(right))}
    for name, parts in columns.items():
        values = np.concatenate(parts)
        if len(values) and np.isfinite(values).all():
            found[name] = ranking_scores.auroc(values, right)
    return found


def of_intervals(observed: Sequence[Observation], fitted: Calibration) -> Scores:
    """Returns coverage, width and interval score of area and count by level."""
    found: Scores = {}
    for name in WHOLE:
        model = getattr(fitted, name)
        if model is None:
            continue
        answers = [model(one.measured[name]) for one in observed]
        truth = np.array([one.truth[name] for one in observed])
        found[name] = {"centre": model.centre, "scale": model.scale, "true": truth.tolist()}
        for level in LEVELS:
            if model.width[level] is None:
                continue
            low, high = (
                np.array([getattr(a[level], end) for a in answers]) for end in ("low", "high")
            )
            found[name][f"{level:g}"] = interval_scores.scores(low, high, truth, level)._asdict()
            if level == LEVEL:
                found[name] |= {"low": low.tolist(), "high": high.tolist()}
    return found


def of_risks(observed: Sequence[Observation], fitted: Calibration) -> Scores:
    """Returns the mean losses of the masks of `RISKS`; of those that are not calibrated none."""
    found: Scores = {}
    for alpha in RISKS if fitted.risk is not None else ():
        outer, inner = fitted.risk.outer(alpha), fitted.risk.inner(alpha)  # type: ignore[union-attr]
        if outer is None or inner is None:
            continue
        losses = [of_risk.losses(one.counts.sum(axis=0), outer, inner) for one in observed]
        missed, false = np.mean(losses, axis=0)
        found[f"{alpha:g}"] = {
            "outer": outer,
            "missed": float(missed),
            "inner": inner,
            "false": float(false),
        }
    return found
