"""A model whose probability is the brightness of each pixel, and a scene of three squares."""

import numpy as np
from tiny_config import tiny

from segdiff_jax.certainty.evidence import Evidence
from segdiff_jax.certainty.prediction import Prediction
from segdiff_jax.data.image_io.arrays import to_rgb

# two white squares, and one of 60 % of white
SCENE = np.zeros((30, 40), np.uint8)
SCENE[2:8, 3:9] = SCENE[20:25, 30:38] = 255
SCENE[10:16, 15:21] = 153


class Brightness:
    """Predicts the brightness; counts its passes."""

    threshold = 0.5

    def __init__(self):
        self.config, self.passes = tiny(), 0

    def predict(self, image):
        self.passes += 1
        p = to_rgb(image).mean(axis=-1).astype(np.float32) / 255
        mask, unsure = (p > self.threshold).astype(np.uint8), np.sqrt(p * (1 - p))
        evidence = Evidence(to_rgb(image), p, p[None], None, None)
        return Prediction(p, mask, unsure, p[None], None, evidence, None)
