"""Measures what a trained run is worth as a probability map and as samples, image by image.

Of each test image: the maps of one pass ("fast") and of all orientations ("balanced"); samples of
the reverse chain, as they are ("soft") and coupled with the fast map ("coupled"); and masks whose
pixels are drawn independently from that map ("pixels"), the rival of samples.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from segdiff_jax import metrics, trained_run
from segdiff_jax.data.example import Example
from segdiff_jax.evaluate import law_scores
from segdiff_jax.evaluation import annotator_scores, sample_scores, scoring
from segdiff_jax.factory import networks, samplers
from segdiff_jax.inference.averaging import average
from segdiff_jax.inference.coupling import couple
from segdiff_jax.runtime import watchdog
from segdiff_jax.trained_run import TrainedRun

MOST = 1 - 1e-6  # to which a probability is clipped where its logarithm is taken


class Predicted(NamedTuple):
    """The predictions for an example, at the size of its mask.

    Attributes:
      example: with the truth.
      maps: probability [H, W] by budget.
      soft: [S, H, W] samples, about 0..1; S is 0 for a network of one pass.
    """

    example: Example
    maps: dict[str, np.ndarray]
    soft: np.ndarray


def measure(config: ConfigDict, run: Path, output: Path) -> dict[str, Any]:
    """Scores a run on its test split; returns "rows", a dictionary of scores for each image."""
    del output
    loaded = trained_run.load(config, run)
    rows = []
    for i, found in enumerate(predictions(loaded)):
        watchdog.heartbeat(f"the prediction for {found.example.name}")
        rows.append(
            {"name": found.example.name, **scores(found, config.seed + i, config.data.name)}
        )
    return {
        "data": config.data.name,
        "images": len(loaded.examples),
        "updates": loaded.step,
        "rows": rows,
    }


def predictions(loaded: TrainedRun) -> Iterator[Predicted]:
    """Yields the predictions for the test examples, in their order."""
    config, one = loaded.config, loaded.segmenter
    count = 0 if networks.one_pass(config) else config.sampling.samples
    images, key = [example.image for example in loaded.examples], scoring.noise_key(config.seed)
    segmenters = [samplers.segmenter(_balanced(config), one.params, one.mesh)]
    if count:
        segmenters.append(samplers.chain_segmenter(config, one.params, one.mesh, count))
    streams = [segment(images, key) for segment in segmenters]
    for example, *found in zip(loaded.examples, *streams, strict=True):
        size = example.mask.shape
        # the first of the orientations is the image as it is: the pass of "fast"
        maps = {"fast": average(found[0][:1], size), "balanced": average(found[0], size)}
        soft = [average(g[None], size) for g in found[-1]] if count else []
        yield Predicted(example, maps, np.array(soft))


def scores(found: Predicted, seed: int, data: str) -> dict[str, float]:
    """Returns the scores of one image of a data set; `seed` is of what is drawn here."""
    truth = found.example.mask
    row = {
        f"{name}_{key}": value
        for name, p in found.maps.items()
        for key, value in _map_scores(p, truth).items()
    }
    p = found.maps["fast"]
    row["map_area"] = abs(float(sample_scores.expected_area(p)) - truth.sum())
    counts = [int(sample_scores.object_counts(mask[None])[0]) for mask in (p, truth)]
    row["map_count"] = abs(counts[0] - counts[1])
    sets = {"pixels": sample_scores.independent_pixels(p, max(len(found.soft), 16), seed)}
    if len(found.soft):
        rng = np.random.default_rng([seed, 1])
        sets |= {"soft": found.soft, "coupled": couple(found.soft, p, rng)}
    for name, masks in sets.items():
        of_set = _sample_scores(masks, p, found.example)
        of_set |= law_scores(data, found.example.name, masks > 0.5)
        row |= {f"{name}_{key}": value for key, value in of_set.items()}
    return row


def _map_scores(p: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    q = np.clip(np.float64(p), 1 - MOST, MOST)
    right = np.where(truth > 0, q, 1 - q)
    return {
        "dice": metrics.dice(p > 0.5, truth),
        "nll": float(-np.log(right).mean()),
        "brier": float(np.square(p - truth).mean()),
    }


def _sample_scores(masks: np.ndarray, p: np.ndarray, example: Example) -> dict[str, float]:
    """Returns the scores of samples [S, H, W]; within and between as shares of p (1 - p)."""
    truth = example.mask
    held = sample_scores.ledger(masks, p)
    hard = masks > 0.5
    counts = sample_scores.object_counts(masks)
    return {
        "within": held.within / held.marginal,
        "between": held.between / held.marginal,
        "unbiased_brier": sample_scores.unbiased_brier(masks, truth),
        "ged": annotator_scores.ged_squared(hard, example.masks),
        "hm_iou": annotator_scores.hm_iou(hard, example.masks),
        "crps_area": sample_scores.fair_crps(sample_scores.expected_area(masks), truth.sum()),
        "crps_count": sample_scores.fair_crps(
            counts, int(sample_scores.object_counts(truth[None])[0])
        ),
        "dice": float(np.mean([metrics.dice(mask, truth) for mask in hard])),
        "pairwise_dice": sample_scores.pairwise_dice(hard),
    }


def _balanced(config: ConfigDict) -> ConfigDict:
    config = config.copy_and_resolve_references()
    config.sampling.budget = "balanced"
    return config
