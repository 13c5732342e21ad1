"""Predicts the masks of examples and scores them."""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from segdiff_jax import metrics
from segdiff_jax.data.example import Example
from segdiff_jax.inference.averaging import average
from segdiff_jax.inference.predictor import PredictedRows, Predictor, Run
from segdiff_jax.inference.segmentation import Segmenter
from segdiff_jax.runtime import compilation, watchdog


class ScoredPrediction(NamedTuple):
    """Holds the prediction for one example and its scores."""

    example: Example
    generations: np.ndarray  # [G, H, W] float32, about 0..1; one from a network of one pass
    probability: np.ndarray  # [h, w] float32 in 0..1, at the size of the truth
    scores: dict[str, float]  # of the mask probability > 0.5, by `metrics.KEYS`
    samples: np.ndarray | None = None  # [S, H, W] uint8 of 0 and 1, whole masks; None: none drawn
    rows: PredictedRows | None = None  # the prediction at the size of the image


def score_examples(
    segment: Predictor | Segmenter, examples: Sequence[Example], seed: int
) -> Iterator[ScoredPrediction]:
    """Yields the prediction for each example, in their order; samples are a predictor's alone.

    The noise depends on the seed, the index of the example, the generation and the tile.
    """
    images = (example.image for example in examples)
    predictor = segment if isinstance(segment, Predictor) else Predictor((Run(segment),))
    progress = tqdm(
        predictor(images, noise_key(seed)),
        "segmenting",
        len(examples),
        mininterval=1 if sys.stderr.isatty() else 30,  # keeps logs short
        leave=False,
        disable=jax.process_index() > 0,
    )
    for example, found in zip(examples, _reporting(progress), strict=True):
        # of classes that overlap, the mean of unions is not the union of means
        maps, way = found.generations, predictor.fusion
        maps, way = (found.probability[None], "mean") if found.overlap else (maps, way)
        probability = average(maps, example.mask.shape, way)
        scores = metrics.scores(probability, example.mask, example.objects)
        yield ScoredPrediction(
            *(example, found.generations, probability, scores, found.samples, found),
        )
        watchdog.heartbeat(f"the prediction for {example.name}")


def _reporting(progress: tqdm) -> Iterator[PredictedRows]:
    """Yields predictions; the progress line says when a program is compiled for the next."""

    def describe(compiled: str) -> None:
        progress.set_description(f"compiling for {compiled}" if compiled else "segmenting")

    with compilation.reported_to(describe):
        yield from progress


def sample_masks(found: ScoredPrediction, random: bool) -> np.ndarray | None:
    """Returns whole masks [S, h, w] bool at the size of the truth; None if there are not several.

    They are the samples, or the generations if those are samples of masks (`random`).
    """
    masks = found.generations if found.samples is None and random else found.samples
    if masks is None or len(masks) < 2:
        return None
    size = found.example.mask.shape
    return np.stack([average(one[None].astype(np.float32), size) > 0.5 for one in masks])


def noise_key(seed: int) -> jax.Array:
    """Returns the key from which all sampling noise is derived; training uses another."""
    return jax.random.fold_in(jax.random.key(seed), 2)


def mean_scores(segment: Segmenter, examples: Sequence[Example], seed: int) -> dict[str, float]:
    """Returns the mean of every score over the examples."""
    return metrics.means([one.scores for one in score_examples(segment, examples, seed)])
