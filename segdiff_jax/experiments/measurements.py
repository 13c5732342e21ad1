"""What is measured of a trained run: its scores, and how they grow with generations and steps.

Each measurement is a function (config, run, answer) -> what `result.json` is to hold.
"""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from segdiff_jax import __version__, evaluate, metrics, train, trained_run
from segdiff_jax.config import flatten
from segdiff_jax.data.example import Example
from segdiff_jax.evaluation import scoring
from segdiff_jax.experiments.samples import SampleRecorder
from segdiff_jax.factory import samplers
from segdiff_jax.inference.averaging import average
from segdiff_jax.runtime import watchdog
from segdiff_jax.trained_run import TrainedRun

Result = dict[str, Any]


TIMED, REPEATS = 8, 3  # images that are timed together, and how often


def trained(config: ConfigDict, run: Path) -> Result:
    """Trains a run, or goes on with it; returns what is known of the training.

    Seconds are those of the updates, without compiling: the number of updates over the median of
    the rates in metrics.jsonl.
    """
    state = train.train(config, run)
    counts = parameters(state.ema_params)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    rates = [rate for line in lines if (rate := line.get("steps_per_second"))]
    updates = int(state.step)
    seconds = updates / statistics.median(rates) if rates else None
    return {
        "updates": updates,
        "seconds": seconds,
        "batch_size": config.train.batch_size,
        "parameters": counts,
        **machine(),
    }


def parameters(params: Mapping[str, Any]) -> dict[str, int]:
    """Returns how many numbers the network has learned, in all and in its encoder G."""

    def count(tree: Any) -> int:
        return sum(int(leaf.size) for leaf in jax.tree.leaves(tree))

    return {"all": count(params), "encoder": count(params.get("encoder", {}))}


def machine() -> dict[str, str]:
    """Returns where and with what something was computed."""
    return {
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": f"segdiff_jax {__version__}, jax {jax.__version__}",
    }


def about(opened: TrainedRun) -> Result:
    """Returns what every result says: what was asked, of whom, and where."""
    config = opened.config
    return {
        "data": config.data.name,
        "split": config.data.test_split,
        "images": len(opened.examples),
        "updates": opened.step,
        "knobs": flatten(config),
        **machine(),
    }


def scores(config: ConfigDict, run: Path, answer: Path) -> Result:
    """The report of a run, and what tables need of it; its pictures are kept for figures."""
    opened, keeper = trained_run.load(config, run), SampleRecorder()
    evaluate.evaluate_loaded(opened, run, answer / "report", keeper)
    keeper.save(answer)
    report = json.loads((answer / "report" / "report.json").read_text())
    kept = {key: report[key] for key in ("summary", "groups", "baselines")}
    rows = [{k: v for k, v in row.items() if k != "panel"} for row in report["images"]]
    return {
        **about(opened),
        **kept,
        "rows": rows,
        "seconds": report["settings"]["seconds per image"],
    }


def generations(config: ConfigDict, run: Path, answer: Path) -> Result:
    """Scores of the mean of the first n of one set of generations, n = 1, 2, ... (Fig. 5, 6)."""
    opened, keeper = trained_run.load(config, run), SampleRecorder()
    table = []
    for found in scoring.score_examples(opened.segmenter, opened.examples, config.seed):
        keeper(found)
        means = running_means(found.generations, found.example.mask.shape)
        table.append([metrics.scores(mean, found.example.mask) for mean in means])
    keeper.save(answer)
    numbers = list(range(1, config.sampling.generations + 1))
    return {**about(opened), "generations": numbers, "curves": curves(table)}


def running_means(soft: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields the average of the first 1, 2, ... of the generations [S, h, w] at a size (H, W)."""
    total = np.zeros(size, np.float64)
    for n, one in enumerate(soft, start=1):
        total += average(one[None], size)
        yield np.clip(total / n, 0, 1).astype(np.float32)


def reverse(config: ConfigDict, run: Path, answer: Path) -> Result:
    """Scores of what would be answered if the chain ended after each reverse step (Fig. 4)."""
    opened, keeper = trained_run.load(config, run), SampleRecorder()
    segment = samplers.trajectory_segmenter(opened.config, opened.params, opened.mesh)
    images = (example.image for example in opened.examples)
    key = scoring.noise_key(config.seed)
    table = []
    for example, paths in zip(opened.examples, segment(images, key), strict=True):
        watchdog.heartbeat(f"the path to {example.name}")
        keeper.path(example, paths)
        table.append(list(path_scores(paths, example)))
    keeper.save(answer)
    steps = samplers.reverse_steps(config, samplers.schedule(config))
    return {**about(opened), "t": steps.t.tolist(), "curves": curves(table)}


def path_scores(paths: np.ndarray, example: Example) -> Iterator[dict[str, float]]:
    """Yields the scores after each step; paths: [S, steps, H, W], averaged over S."""
    for estimates in paths.swapaxes(0, 1):
        yield metrics.scores(average(estimates, example.mask.shape), example.mask)


def curves(table: Sequence[Sequence[Mapping[str, float]]]) -> Result:
    """Summaries over images; table: for each image, the scores at each place of a curve.

    Returns:
      {score: {"mean": [...], "standard_deviation": [...], "standard_error": [...]}}.
    """
    found: Result = {key: {} for key in metrics.KEYS}
    for place in zip(*table, strict=True):
        for key, summary in metrics.summarise(place).items():
            for name in ("mean", "standard_deviation", "standard_error"):
                found[key].setdefault(name, []).append(getattr(summary, name))
    return found


def seconds(config: ConfigDict, run: Path, answer: Path) -> Result:
    """Seconds for one generation of one image, once all is compiled (Fig. 9b).

    The first images of the test split are drawn together, once to compile and then several times.
    """
    del answer
    config = config.copy_and_resolve_references()
    config.sampling.generations = 1
    opened = trained_run.load(config, run)
    segment = opened.segmenter
    images = [example.image for example in itertools.islice(opened.examples, TIMED)]

    def took() -> float:
        began = time.monotonic()
        _exhaust(segment(images, jax.random.key(config.seed)))
        return time.monotonic() - began

    took()
    every = [took() / len(images) for _ in range(REPEATS)]
    return {
        **about(opened),
        "steps": config.sampling.steps or config.diffusion.T,
        "seconds": statistics.median(every),
        "repeats": every,
        "together": len(images),
    }


def _exhaust(masks: Iterable[np.ndarray]) -> None:
    for _ in masks:
        pass


MEASURES: dict[str, Callable[[ConfigDict, Path, Path], Result]] = {
    "scores": scores,
    "generations": generations,
    "reverse": reverse,
    "seconds": seconds,
}
