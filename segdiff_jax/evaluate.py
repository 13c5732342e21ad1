"""Evaluates a run: scores its test split, and writes a report with a panel of every image."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from segdiff_jax import __version__, metrics, trained_run
from segdiff_jax.certainty import calibration, evidence
from segdiff_jax.certainty import scores as certainty_scores
from segdiff_jax.certainty.calibration import Observation
from segdiff_jax.certainty.evidence import Classes, Evidence
from segdiff_jax.certainty.objects import Objects, find
from segdiff_jax.checkpoint import trust
from segdiff_jax.data.datasets.registry import Source
from segdiff_jax.data.example import Example
from segdiff_jax.evaluation import annotator_scores, class_scores, joint_scores, object_scores
from segdiff_jax.evaluation.baselines import baseline_rows
from segdiff_jax.evaluation.class_scores import ClassCounts, by_plane, majority
from segdiff_jax.evaluation.panels import ClassPanel, panel
from segdiff_jax.evaluation.report import FURTHER, save_panel, write_report
from segdiff_jax.evaluation.scoring import ScoredPrediction, sample_masks, score_examples
from segdiff_jax.factory import datasets, networks
from segdiff_jax.inference.predictor import Predictor
from segdiff_jax.runtime import own_files
from segdiff_jax.trained_run import TrainedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVE = "metrics.jsonl"
EXACT = 8  # samples of a known law for each sample of a network


class Evaluation(NamedTuple):
    """Scores of a split."""

    rows: list[dict[str, Any]]  # "name", the scores of each image, and its further ones
    calibration: np.ndarray  # sums over all pixels of all images, see `metrics.calibration`
    panels: list[Path]  # a PNG of each image, on process 0
    seconds: float  # per image, without scoring and drawing it
    observed: list[Observation]  # what scores of certainty are made of
    objects: object_scores.Counts  # of all images together
    contours: np.ndarray  # the sum of `metrics.boundary_counts` over images
    classes: dict[str, Any] | None  # see `class_scores.report`; None: there are no classes


def evaluate(config: ConfigDict, workdir: Path) -> Path:
    """Scores the averaged weights of a run on its test split and writes the report.

    Args:
      config: of the run; its sampling settings may differ from those of the training.
      workdir: of the run.

    Returns:
      The path of report.html (written by process 0 only).

    Raises:
      UserError: there is no checkpoint, or the data do not fit.
    """
    own_files.check(workdir, folders=["report"])
    trust.check_log_file(workdir / CURVE)
    return evaluate_run(trained_run.load(config, workdir), workdir, workdir / "report")


def evaluate_run(
    run: TrainedRun,
    workdir: Path,
    directory: Path,
    watch: Callable[[ScoredPrediction], object] | None = None,
) -> Path:
    """Scores a run, loaded with its test split, and writes the report; see `evaluate`.

    `watch` is called with every prediction, in the order of the examples.
    """
    config, step, examples = run.config, run.step, run.examples
    c = config.data
    logging.info("evaluating update %d on %d images of %r", step, len(examples), c.test_split)
    fitted, note = trained_run.calibrated(run, workdir)
    logging.info("certainty: %s", note)
    further = further_scores(c.name, examples, run.predictor.random)
    found = evaluate_split(run.predictor, examples, config.seed, directory, further, watch)
    if jax.process_index() > 0:
        return directory / "report.html"
    keys = [key for key in (*metrics.KEYS, *FURTHER) if key in found.rows[0]]
    log_scores(found, keys)
    page = write_report(
        directory,
        title=f"{networks.TITLES[config.model.kind]} on {c.name}, {c.test_split} split",
        settings=describe(config, step, len(examples), found.seconds),
        rows=found.rows,
        baselines=baseline_rows(datasets.scored_examples(config, c.train_split), examples),
        calibration_sums=found.calibration,
        panels=found.panels,
        training_curve=read_curve(workdir),
        certainty=certainty_scores.scores(found.observed, fitted),
        objects=found.objects,
        contours=found.contours,
        classes=found.classes,
    )
    logging.info("report: %s", page)
    return page


def log_scores(found: Evaluation, keys: Sequence[str]) -> None:
    """Logs the means of scores, and the scores of objects and classes."""
    means = metrics.summarise(found.rows, keys)
    logging.info("test: %s", ", ".join(f"{key} {x.mean:.4f}" for key, x in means.items()))
    scores = object_scores.scores(found.objects)
    logging.info("objects: %s", ", ".join(f"{key} {x:.4g}" for key, x in scores.items()))
    if found.classes is not None:
        rows = found.classes["classes"] | {"mean": found.classes["mean"]}
        dice = ", ".join(f"{name} {x['together']['dice']:.4f}" for name, x in rows.items())
        logging.info("Dice of classes, all images together: %s", dice)


def evaluate_split(
    predictor: Predictor,
    examples: Sequence[Example],
    seed: int,
    directory: Path,
    further: Callable[[ScoredPrediction], dict[str, float]],
    watch: Callable[[ScoredPrediction], object] | None = None,
) -> Evaluation:
    """Predicts, scores and draws every example; panels go to the directory of the report."""
    rows, panels, sums, seconds, observed = [], [], np.zeros((3, 10)), 0.0, []
    contours, names = list[np.ndarray](), ()
    of_classes: list[list[ClassCounts]] = []
    began = time.monotonic()
    for i, found in enumerate(score_examples(predictor, examples, seed)):
        seconds += time.monotonic() - began
        if watch is not None:
            watch(found)
        example = found.example
        group = {"group": example.group} if example.group else {}
        seen = evidence_of(found, predictor.random)
        of_mask = find(seen, seen.half)
        own = seen.true_objects(example.mask, example.objects, example.classes)
        of = example.name, seen, example.mask
        observed.append(calibration.observe_objects(*of, of_mask, own))
        if seen.classes is not None and example.classes is not None:
            of_classes.append(count_classes(seen.classes, seen.probability, example, of_mask, own))
            names = seen.classes.names
        of_objects = object_scores.scores(observed[-1].scored)
        scores = found.scores | further(found) | of_objects
        rows.append({"name": example.name, **group, **scores})
        sums += metrics.calibration(found.probability, example.mask)
        contours.append(metrics.boundary_counts(found.probability > 0.5, example.mask))
        if jax.process_index() == 0:
            picture = draw(found, class_panel(seen, example), predictor.random)
            panels.append(save_panel(directory, i, example.name, picture))
        began = time.monotonic()
    seconds, objects = seconds / len(examples), [one.scored for one in observed]
    total, of_contours = object_scores.total(objects), np.sum(contours, axis=0)
    classes = class_scores.report(names, of_classes) if of_classes else None
    return Evaluation(rows, sums, panels, seconds, observed, total, of_contours, classes)


def draw(found: ScoredPrediction, classes: ClassPanel | None, random: bool) -> "Figure":
    """Returns the panel of a prediction."""
    example = found.example
    return panel(
        *(example.image, example.mask, found.generations, found.probability),
        *(example.name, found.scores, random, example.annotations),
        samples=found.samples,
        classes=classes,
    )


def evidence_of(found: ScoredPrediction, random: bool) -> Evidence:
    """Returns the evidence of a prediction at the size of the truth."""
    assert found.rows is not None  # `score_examples` has them
    example = found.example
    return evidence.evidence(example.image, found.rows, random, example.mask.shape)


def count_classes(
    classes: Classes, probability: np.ndarray, example: Example, found: Objects, own: np.ndarray
) -> list[ClassCounts]:
    """Counts the pixels and objects of each class.

    Args:
      classes: predicted.
      probability: of the foreground, [H, W].
      example: has classes.
      found: objects of the mask.
      own: labels of the true objects, see `Evidence.true_objects`.
    """
    true, count = example.classes, len(classes.names)
    assert true is not None
    of_mask, way = (found.labels, found.classes), (count, classes.overlap)
    kinds = by_plane(own) if classes.overlap else majority(own, true, count)
    return class_scores.count(classes.of(probability > 0.5), true, of_mask, (own, kinds), *way)


def class_panel(seen: Evidence, example: Example) -> ClassPanel | None:
    """Returns what a panel shows of classes; None: there are none."""
    if seen.classes is None or example.classes is None:
        return None
    found = seen.classes.of(seen.probability > 0.5)
    return ClassPanel(seen.classes.names, example.classes, found, seen.classes.overlap)


def further_scores(
    data: str, examples: Sequence[Example], random: bool
) -> Callable[[ScoredPrediction], dict[str, float]]:
    """Returns the scores against several annotators, and against the law of a set that has one.

    `data` is the name of the data set; `random` says whether generations are samples of masks.
    """
    several = any(example.annotations is not None for example in examples)

    def score(found: ScoredPrediction) -> dict[str, float]:
        masks = sample_masks(found, random)
        example, scores = found.example, {}
        if several:
            scores |= annotator_scores.scores(found.probability, example.masks, masks)
        return scores | ({} if masks is None else law_scores(data, example.name, masks))

    return score


def law_scores(data: str, name: str, masks: np.ndarray) -> dict[str, float]:
    """Returns the scores of samples [S, H, W] bool against the law of a data set; {} without one.

    `data` is the name of the data set, `name` that of the example.
    """
    law = Source(data).law(name, EXACT * len(masks))
    return joint_scores.scores(masks, *law) if law else {}


def describe(config: ConfigDict, step: int, images: int, seconds: float) -> dict[str, Any]:
    """Returns the settings a reader needs to judge or repeat the evaluation."""
    c, count = config.sampling, config.data.train_images
    chosen = {
        "last": "the last averaged (EMA) weights; no test image chose them",
        "best": f"averaged (EMA) weights, best Dice on split {config.data.validation_split!r}",
    }
    return {
        "data": f"{config.data.name}, split {config.data.test_split!r}, {images} images",
        "trained on": f"{f'{count} images of ' if count else ''}split {config.data.train_split!r}",
        "weights": chosen[config.train.result],
        "updates": step,
        **({"classes": ", ".join(names)} if (names := networks.class_names(config)) else {}),
        **({"channels": config.data.channels} if config.data.channels else {}),
        **networks.describe(config),
        "tiles": f"{c.tile} pixels every {c.stride}" if c.tile else "none",
        "seconds per image": round(seconds, 3),
        "seed": config.seed,
        **machine(),
    }


def machine() -> dict[str, str]:
    """Returns the devices and the versions of a computation."""
    return {
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": f"segdiff_jax {__version__}, jax {jax.__version__}",
    }


def read_curve(workdir: Path) -> list[dict[str, float]] | None:
    """Returns the training loss from metrics.jsonl, or None if there is none."""
    path = workdir / CURVE
    if not path.exists():
        return None
    lines = (json.loads(line) for line in path.read_text().splitlines())
    return [{"step": x["step"], "loss": x["loss"]} for x in lines if "loss" in x] or None
