"""Measures what the certainty of a run is worth: fitted on half of its pictures, scored on others.

The pictures are those of the validation and the test split. Their predictions are saved beside the
result, so that tables can compare runs: the masks of one rated by another, seeds as an ensemble.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from segdiff_jax import trained_run
from segdiff_jax.certainty import answers, calibration, evidence, quantities, scores
from segdiff_jax.certainty.calibration import Calibration, Observation
from segdiff_jax.certainty.evidence import Evidence
from segdiff_jax.data.example import Example
from segdiff_jax.evaluation import interval_scores, ranking_scores, scoring
from segdiff_jax.experiments.certainty_result import EVIDENCE, HALVES, PATHS
from segdiff_jax.factory import datasets
from segdiff_jax.inference.predictor import Predictor

TIMED = 4  # pictures
MASKS = ("passes", "samples", "decisions")  # saved as bits


def measure(config: ConfigDict, run: Path, output: Path) -> dict[str, Any]:
    """Measures a run; returns scores over halves, from validation to test, and the cost."""
    config = config.copy_and_resolve_references()
    config.sampling.budget = "balanced"
    loaded = trained_run.load(config, run)
    known = datasets.scored_examples(config, config.data.validation_split or "validation")
    examples, key = [*known, *loaded.examples], scoring.noise_key(config.seed)
    observed, seen = [], []
    for i, (example, found) in enumerate(calibration.predicted(loaded.predictor, examples, key)):
        other = examples[(i + 1) % len(examples)].mask
        other = other if other.shape == example.mask.shape else None
        observed.append(
            calibration.learn(example.name, found, example.mask, other, example.objects)
        )
        seen.append(found)
    save(output / EVIDENCE, seen, examples)
    fitted = calibration.fit(observed[: len(known)])
    return {
        "data": config.data.name,
        "images": len(loaded.examples),
        "validation": len(known),
        "updates": loaded.step,
        "halves": halves(observed),
        "test": _flat(scores.scores(observed[len(known) :], fitted)),
        "seconds": cost(loaded.predictor, loaded.examples, key, fitted),
    }


def halves(observed: Sequence[Observation], seed: int = 0) -> dict[str, list[float]]:
    """Returns scores of random halves by name, each with a fit on the other half: [HALVES]."""
    rng, found = np.random.default_rng(seed), {}
    for _ in range(HALVES):
        order = rng.permutation(len(observed))
        fit_on, new = np.array_split(order, 2)
        fitted = calibration.fit([observed[i] for i in fit_on])
        rest = [observed[i] for i in new]
        row = _flat(scores.scores(rest, fitted)) | _suspicion(rest, fitted)
        row |= _rivals_of_intervals([observed[i] for i in fit_on], rest)
        if fitted.ranges is not None:
            row["strangers"] = np.mean([bool(fitted.ranges.unlike(o.statistics)) for o in rest])
        for name, value in row.items():
            found.setdefault(name, []).append(float(value))
    return found


def _flat(content: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores of `PATHS` that there are."""
    found = {}
    for name, path in PATHS.items():
        value: Any = content
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found[name] = value
    return found


def _suspicion(observed: Sequence[Observation], fitted: Calibration) -> dict[str, float]:
    """Returns how well spoilt annotations are found, by kind and their mean: AUROC."""
    if fitted.suspicion is None:
        return {}
    kinds = sorted({kind for one in observed for kind in one.spoilt} - {"right"})
    found = {}
    for kind in kinds:
        rows = [(k, one.spoilt[k]) for one in observed for k in ("right", kind) if k in one.spoilt]
        values = np.array([float(fitted.suspicion(of)) for _, of in rows])
        found[f"spoilt, {kind}"] = ranking_scores.auroc(
            values, np.array([k == kind for k, _ in rows])
        )
    return found | {"spoilt": statistics.fmean(found.values())} if found else {}


def _rivals_of_intervals(
    known: Sequence[Observation], new: Sequence[Observation]
) -> dict[str, float]:
    """Returns the interval scores of the area by a constant width and by the map's own scale."""
    found, truth = {}, [one.truth["area"] for one in new]
    for scale in (quantities.CONSTANT, quantities.VARIANCE):
        measured = [one.measured["area"] for one in known]
        rival = quantities.fit_as(
            measured, [one.truth["area"] for one in known], False, "probability", scale
        )
        made = [rival(one.measured["area"])[0.8] for one in new]
        low, high = np.array([of.low for of in made]), np.array([of.high for of in made])
        score = interval_scores.scores(low, high, np.array(truth), 0.8).score
        found[f"area score, {scale}"] = score
    return found


def cost(
    predictor: Predictor, examples: Sequence[Example], key: Any, fitted: Calibration
) -> dict[str, float]:
    """Returns the seconds of a prediction alone, and of one with all its numbers; medians."""
    plain, full = [], []
    for i, example in enumerate(examples[: TIMED + 1]):
        began = time.monotonic()
        rows = predictor.predict(example.image, key, i)
        predicted = time.monotonic()
        found = evidence.evidence(example.image, rows, predictor.random)
        answers.answer(found, found.probability > 0.5, fitted)
        answers.objects(found, found.probability > 0.5, fitted)
        plain.append(predicted - began)
        full.append(time.monotonic() - began)
    return {  # the first one compiles
        "predicted": statistics.median(plain[1:] or plain),
        "answered": statistics.median(full[1:] or full),
    }


def save(path: Path, seen: Sequence[Evidence], examples: Sequence[Example]) -> None:
    """Writes the evidence of pictures and their truths; see `read`."""
    arrays: dict[str, np.ndarray] = {}
    for i, (found, example) in enumerate(zip(seen, examples, strict=True)):
        arrays[f"{i}_image"] = found.image
        arrays[f"{i}_probability"] = found.probability
        arrays[f"{i}_truth"] = np.packbits(example.mask > 0)
        for name in MASKS:
            masks = getattr(found, name)
            if masks is not None:
                arrays[f"{i}_{name}"] = np.packbits(masks > 0.5, axis=0)
                arrays[f"{i}_{name}_count"] = np.array(len(masks))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def read(path: Path) -> list[tuple[Evidence, np.ndarray]]:
    """Returns the evidence of pictures, with passes of 0 and 1, and their true masks."""
    found = []
    with np.load(path, allow_pickle=False) as arrays:
        while (name := f"{len(found)}_probability") in arrays:
            i, p = len(found), arrays[name]
            sets: dict[str, np.ndarray | None] = dict.fromkeys(MASKS)
            for kind in MASKS:
                if f"{i}_{kind}" in arrays:
                    count = int(arrays[f"{i}_{kind}_count"])
                    bits = np.unpackbits(arrays[f"{i}_{kind}"], axis=0, count=count)
                    sets[kind] = bits.astype(bool)
            passes = np.asarray(sets["passes"], np.float32)
            truth = np.unpackbits(arrays[f"{i}_truth"], count=p.size).reshape(p.shape) > 0
            seen = Evidence(arrays[f"{i}_image"], p, passes, sets["samples"], sets["decisions"])
            found.append((seen, truth))
    return found
