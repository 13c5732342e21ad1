"""Scores and samples of a predictor, and of a segmenter alone."""

from typing import NamedTuple

import numpy as np

from segdiff_jax import metrics
from segdiff_jax.data.example import Example
from segdiff_jax.evaluation.scoring import score_examples
from segdiff_jax.inference.predictor import Predictor, Run
from segdiff_jax.inference.segmentation import ImageRows

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (2, 6, 8, 3), np.uint8)
MASKS = RANDOM.integers(0, 2, (2, 6, 8), np.uint8)
EXAMPLES = [Example(IMAGES[i], MASKS[i], name) for i, name in enumerate("ab")]


class Red(NamedTuple):
    """Stands in for a segmenter: its generations are the colours of the image."""

    generations: int = 3
    first: int = 0
    every: int = 1

    def bands(self, images, key, first=0):
        for number, image in enumerate(images):
            soft = np.moveaxis(image, -1, 0)[: self.generations].astype(np.float32) / 255
            yield ImageRows(number, 0, soft, True)


def test_the_fusion_of_a_predictor_is_scored_and_its_samples_are_there():
    for fusion, of in (("mean", np.mean), ("median", np.median)):
        for found in score_examples(Predictor((Run(Red(), None, fusion),)), EXAMPLES, 0):
            wanted = of(np.moveaxis(found.example.image, -1, 0) / 255, axis=0)
            np.testing.assert_allclose(found.probability, wanted, atol=1e-6)
            assert found.scores == metrics.scores(found.probability, found.example.mask)
            assert found.samples is None
