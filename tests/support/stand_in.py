"""A model that predicts the colours of an image, to test what is written of predictions."""

import json
from typing import NamedTuple

import numpy as np
from tiny_config import tiny

from segdiff_jax.data.channels import Channels
from segdiff_jax.factory import samplers
from segdiff_jax.inference.predicted_rows import Further, PredictedRows


def run_of(folder):
    """Makes the directory of a run that a `StandIn` predicts for; returns it."""
    run = folder / "run"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(tiny().to_dict()))
    return run


class Predictor(NamedTuple):
    generations: int
    samples: int
    tolerance: float
    whole: bool
    by_distance: bool = False


class StandIn:
    """Predicts the red, green and blue of an image; its noise is the number of the image.

    Its samples are where these are above 1/2. The interiors of objects, if it has them, are blue.
    Its classes, if it has them, are green and blue; if they overlap the foreground is their union.
    """

    def __init__(
        self,
        rows=7,
        generations=3,
        stop_at=None,
        samples=0,
        whole=False,
        interior=False,
        classes=(),
        separate="auto",
        overlap=False,
    ):
        self.overlap = overlap
        self.class_names, self.channel_names = classes, ()
        self.config, self.step, self.threshold = tiny(), 6, 0.5
        self.config.sampling.generations = generations
        self.config.sampling.samples, self.config.sampling.separate = samples, separate
        self.rows, self.stop_at, self.asked = 10**9 if whole else rows, stop_at, []
        self.random, self.whole, self.interior = True, whole, interior
        self.calibration, self.uncalibrated, self.calibrated = None, "it is a stand-in", False

    @property
    def predictor(self):
        c = self.config.sampling
        apart = c.separate == "distance"
        return Predictor(c.generations, c.samples, c.tolerance, self.whole, apart)

    @property
    def configs(self):
        return (self.config,)

    @property
    def steps(self):
        return (self.step,)

    def shown(self, probability):
        return probability

    def settings(self):
        runs = [samplers.of_sampling(config, self.predictor) for config in self.configs]
        return {"updates": [int(step) for step in self.steps], "runs": runs}

    def bands(self, images, first=0):
        for place, image in enumerate(images):
            self.asked.append(first + place)
            if first + place == self.stop_at:
                raise KeyboardInterrupt
            soft = np.moveaxis(image, -1, 0)[: self.config.sampling.generations] / 255
            soft = soft + (first + place) / 1000
            for top in range(0, len(image), self.rows):
                rows = soft[:, top : top + self.rows].astype(np.float32)
                masks = (rows > 0.5).astype(np.uint8) if self.predictor.samples else None
                mean, last = rows.clip(0, 1).mean(axis=0), top + self.rows >= len(image)
                soft_samples = rows if self.predictor.samples else None
                further = None
                if self.interior or self.class_names:
                    shown = image[top : top + self.rows] / np.float32(255)
                    channels = [shown[..., k] for k in (1, 2)[: len(self.class_names)]]
                    more = np.stack(channels + [shown[..., 2]] * self.interior)
                    each = np.stack([more] * 3)
                    kinds = Channels(self.class_names, self.interior, self.overlap)
                    further = Further(kinds, more, each, None if soft_samples is None else each)
                if self.overlap:
                    mean = more.max(axis=0)
                    rows = np.stack([mean] * 3)
                    soft_samples = None if masks is None else rows
                    masks = None if masks is None else (rows > 0.5).astype(np.uint8)
                found = PredictedRows(place, top, rows, mean, masks, last, soft_samples, further)
                yield found._replace(by_distance=self.predictor.by_distance)
