"""Trains a run and measures it: scores, their growth with generations and steps, seconds.

Each measurement is a function (config, run, output): it reads the trained run, may write files to
the folder `output`, and returns the content of `result.json`.
"""

import collections
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from segdiff_jax import evaluate, metrics, train, trained_run
from segdiff_jax.config import flatten
from segdiff_jax.data.example import Example
from segdiff_jax.evaluation import scoring
from segdiff_jax.experiments import certainty_measurement, joint_measurement
from segdiff_jax.experiments.samples import SampleRecorder
from segdiff_jax.factory import samplers
from segdiff_jax.inference.averaging import average
from segdiff_jax.runtime import watchdog
from segdiff_jax.trained_run import TrainedRun

Result = dict[str, Any]
TIMED_IMAGES, REPEATS = 8, 3


def trained(config: ConfigDict, run: Path) -> Result:
    """Trains a run, or continues it; returns its size, its duration and the machine.

    The duration is that of the training steps without compilation: their number divided by the
    median of the rates in metrics.jsonl.
    """
    state = train.train(config, run)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    rates = [rate for line in lines if (rate := line.get("steps_per_second"))]
    updates = int(state.step)
    return {
        "updates": updates,
        "seconds": updates / statistics.median(rates) if rates else None,
        "batch_size": config.train.batch_size,
        "parameters": {
            "all": _count(state.ema_params),
            "encoder": _count(state.ema_params.get("encoder", {})),
        },
        **evaluate.machine(),
    }


def _count(params: Mapping[str, Any]) -> int:
    return sum(int(leaf.size) for leaf in jax.tree.leaves(params))


def _describe(loaded: TrainedRun) -> Result:
    """Returns the part that all results have: data, training steps, config and machine."""
    config = loaded.config
    return {
        "data": config.data.name,
        "split": config.data.test_split,
        "images": len(loaded.examples),
        "updates": loaded.step,
        "knobs": flatten(config),
        **evaluate.machine(),
    }


def scores(config: ConfigDict, run: Path, output: Path) -> Result:
    """Scores a run on its test split; writes a report and the samples for figures."""
    loaded, recorder = trained_run.load(config, run), SampleRecorder()
    evaluate.evaluate_run(loaded, run, output / "report", recorder)
    recorder.save(output)
    report = json.loads((output / "report" / "report.json").read_text())
    return {
        **_describe(loaded),
        **{key: report[key] for key in ("summary", "groups", "baselines")},
        "rows": [{k: v for k, v in row.items() if k != "panel"} for row in report["images"]],
        "seconds": report["settings"]["seconds per image"],
    }


def generations(config: ConfigDict, run: Path, output: Path) -> Result:
    """Scores the mean of the first n of one set of generations, n = 1, 2, ... (Fig. 5, 6)."""
    loaded, recorder = trained_run.load(config, run), SampleRecorder()
    table = []
    for scored in scoring.score_examples(loaded.segmenter, loaded.examples, config.seed):
        recorder(scored)
        truth = scored.example.mask
        means = running_means(scored.generations, truth.shape)
        table.append([metrics.scores(mean, truth) for mean in means])
    recorder.save(output)
    numbers = list(range(1, config.sampling.generations + 1))
    return {**_describe(loaded), "generations": numbers, "curves": curves(table)}


def running_means(soft: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields the mean of the first 1, 2, ... generations [S, h, w], resized to a size (H, W)."""
    total = np.zeros(size, np.float64)
    for n, one in enumerate(soft, start=1):
        total += average(one[None], size)
        yield np.clip(total / n, 0, 1).astype(np.float32)


def reverse(config: ConfigDict, run: Path, output: Path) -> Result:
    """Scores the estimate of x0 after each reverse step, averaged over generations (Fig. 4)."""
    loaded, recorder = trained_run.load(config, run), SampleRecorder()
    one = loaded.segmenter
    count = loaded.config.sampling.generations
    segment = samplers.chain_segmenter(loaded.config, one.params, one.mesh, count, trajectory=True)
    images = (example.image for example in loaded.examples)
    trajectories, table = segment(images, scoring.noise_key(config.seed)), []
    for example, paths in zip(loaded.examples, trajectories, strict=True):
        watchdog.heartbeat(f"the trajectory of {example.name}")
        recorder.trajectory(example, paths)
        table.append(list(trajectory_scores(paths, example)))
    recorder.save(output)
    steps = samplers.reverse_steps(config, samplers.schedule(config))
    return {**_describe(loaded), "t": steps.t.tolist(), "curves": curves(table)}


def trajectory_scores(paths: np.ndarray, example: Example) -> Iterator[dict[str, float]]:
    """Yields the scores after each step; paths: [S, steps, H, W], averaged over S."""
    for estimates in paths.swapaxes(0, 1):
        yield metrics.scores(average(estimates, example.mask.shape), example.mask)


def curves(table: Sequence[Sequence[Mapping[str, float]]]) -> Result:
    """Summarises each point of a curve over images.

    Args:
      table: for each image, the scores at each point of the curve.

    Returns:
      {score: {"mean": [...], "standard_deviation": [...], "standard_error": [...]}}.
    """
    summaries: Result = {key: {} for key in metrics.KEYS}
    for point in zip(*table, strict=True):
        for key, summary in metrics.summarise(point).items():
            for name in ("mean", "standard_deviation", "standard_error"):
                summaries[key].setdefault(name, []).append(getattr(summary, name))
    return summaries


def seconds(config: ConfigDict, run: Path, output: Path) -> Result:
    """Measures the seconds per image of one generation, without compilation (Fig. 9b).

    The first images of the test split are sampled together: once to compile, then `REPEATS` times.
    """
    config = config.copy_and_resolve_references()
    config.sampling.generations = 1
    loaded = trained_run.load(config, run)
    segmenter, key = loaded.segmenter, jax.random.key(config.seed)
    images = [example.image for example in itertools.islice(loaded.examples, TIMED_IMAGES)]

    def elapsed() -> float:
        start = time.monotonic()
        collections.deque(segmenter(images, key), maxlen=0)  # consumes all
        return time.monotonic() - start

    elapsed()
    repeats = [elapsed() / len(images) for _ in range(REPEATS)]
    return {
        **_describe(loaded),
        "steps": config.sampling.steps or config.diffusion.T,
        "seconds": statistics.median(repeats),
        "repeats": repeats,
        "together": len(images),
    }


MEASURES: dict[str, Callable[[ConfigDict, Path, Path], Result]] = {
    "scores": scores,
    "generations": generations,
    "reverse": reverse,
    "seconds": seconds,
    "joint": joint_measurement.measure,
    "certainty": certainty_measurement.measure,
}
