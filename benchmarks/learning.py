"""Trains a network for some minutes and scores it on the way: Dice against time.

Only time in which updates are taken counts: not compilation, not scoring. The averaged weights are
scored on the test pictures as they are at each mark; nothing is selected by it. The last ones are
the result.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from benchmarks import ours, peak
from benchmarks.results_file import ResultsFile
from segdiff_jax import metrics, train
from segdiff_jax.checkpoint import manager
from segdiff_jax.cli import options
from segdiff_jax.config import validate
from segdiff_jax.config.allowed import BUDGETS
from segdiff_jax.data.example import Example
from segdiff_jax.evaluation import pixel_scores
from segdiff_jax.evaluation.scoring import score_examples
from segdiff_jax.experiments import recipe
from segdiff_jax.factory import datasets, networks, samplers
from segdiff_jax.factory.training import TrainSetup
from segdiff_jax.models.segdiff import Params
from segdiff_jax.training.nonfinite import MetricsBuffer
from segdiff_jax.training.step import TrainState, split_state

MARKS = 12  # scores on the way


class Limit(NamedTuple):
    """How long a training may take.

    Attributes:
      seconds: in which updates are taken, in all processes together.
      end: of this process, by `time.monotonic`.
    """

    seconds: float
    end: float


def config_of(source: str, part: str, updates: int) -> ConfigDict:
    """Returns the config of a name or file, or its twin's, which takes one pass an update.

    Args:
      source: see `segdiff_jax.cli.options.load_config`.
      part: "training", or "twin".
      updates: in place of those of the config; 0: these.
    """
    config = options.load_config(source)
    config.train.steps = updates or config.train.steps
    config.data.validation_split, config.train.evaluate_every = "", 0
    if part == "twin":
        fields = {name.replace(".", "__"): value for name, value in recipe.ONE_PASS.items()}
        config = ours.changed(config, **fields)
        config.train.steps = round(config.train.steps / recipe.OF_TWIN["logit-T-first"])
    validate.check(config)
    return config


def learn(config: ConfigDict, workdir: Path, limit: Limit, part: str, results: ResultsFile) -> None:
    """Trains, from the last mark of an earlier process if there is one, and adds lines to a part.

    "mark": updates, seconds and minutes so far, dice and iou of the cheapest budget; "weights":
    what was trained, and how fast; "scores": of the last weights, by budget, with ECE.
    """
    ours.start(config)
    test = datasets.scored_examples(config, config.data.test_split)
    setup, checkpoints = train.prepare(config, workdir), manager.Checkpoints(workdir)
    last_mark = results.last(part, "mark") or {}
    began = time.monotonic()
    step = train.CompiledStep(setup)
    step.compile_ahead(next(setup.batches(0)))
    state = train.start(setup, checkpoints)
    first = int(state.step)
    spent = last_mark.get("seconds", 0.0) if first == last_mark.get("updates") else 0.0

    def mark(state: TrainState, updates: int, spent: float) -> None:
        checkpoints.save(updates, *split_state(setup.layout.to_host(state)), None)
        found = scores(config, "fast", train.averaged_weights(setup, state), setup.mesh, test)
        means = {name: found[name] for name in ("dice", "iou")}
        time_ = {"seconds": spent, "minutes": spent / 60}
        results.add(part, "mark", updates=updates, **time_, **means)

    updates = first
    if first < setup.options.steps and spent < limit.seconds:
        state, updates, spent = _updates(setup, step, state, checkpoints, limit, spent, mark)
    checkpoints.close()
    about = {"updates": updates, "of": setup.options.steps, "seconds": spent, "minutes": spent / 60}
    about |= {"whole_seconds": time.monotonic() - began, "images": len(setup.examples)}
    about |= {"parameters": setup.layout.size, "batch": setup.options.batch_size}
    about |= {"devices": [device.device_kind for device in jax.devices()]}
    about |= {"device_bytes": peak.device_peak(), "model": config.model.to_dict()}
    results.add(part, "weights", **about)
    params = train.averaged_weights(setup, state)
    for budget in BUDGETS[: 2 if networks.one_pass(config) else 3]:
        found = scores(config, budget, params, setup.mesh, test)
        results.add(part, "scores", budget=budget, pictures=len(test), **found)


def _updates(
    setup: TrainSetup,
    step: train.CompiledStep,
    state: TrainState,
    checkpoints: manager.Checkpoints,
    limit: Limit,
    spent: float,
    mark: Callable[[TrainState, int, float], None],
) -> tuple[TrainState, int, float]:
    """Takes updates until all are taken or the time is up; returns the state, updates, seconds."""
    first, last = int(state.step), setup.options.steps
    every = max(last // MARKS, 1)
    buffer = MetricsBuffer(setup.options.skip_nonfinite, lambda _: (), checkpoints.last_good)
    batches, begin = setup.batches(first), time.monotonic()
    for n in range(first + 1, last + 1):
        state, measured = step(state, next(batches))
        if n == first + 1:  # it compiled
            begin = time.monotonic()
        buffer.push(n, measured)
        now = time.monotonic()
        over = spent + now - begin >= limit.seconds or now >= limit.end
        if over or n == last or n % every == 0:
            buffer.flush()
            jax.block_until_ready(state)
            spent += time.monotonic() - begin
            mark(state, n, spent)
            begin = time.monotonic()
        if over:
            return state, n, spent
    return state, last, spent


def scores(
    config: ConfigDict, budget: str, params: Params, mesh: Mesh, examples: list[Example]
) -> dict[str, Any]:
    """Returns mean Dice and IoU with standard errors, ECE, and seconds a picture, of a budget.

    Args:
      config: of the network.
      budget: of the probability.
      params: on every device of the mesh.
      mesh: of all devices.
      examples: to score, at least one.
    """
    config = ours.changed(config, sampling__budget=budget)
    segment = samplers.segmenter(config, params, mesh)
    start, rows, counts = time.monotonic(), [], 0
    for found in score_examples(segment, examples, config.seed):
        rows.append(found.scores)
        counts = counts + pixel_scores.count(found.probability, found.example.mask)
    pixels = pixel_scores.scores(np.asarray(counts).sum(axis=0))
    means = metrics.summarise(rows, ("dice", "iou"))
    of = {name: one.mean for name, one in means.items()}
    of |= {f"{name}_standard_error": one.standard_error for name, one in means.items()}
    taken = (time.monotonic() - start) / len(examples)
    return of | {"ece": pixels.ece, "seconds_a_picture": taken}
