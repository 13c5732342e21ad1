"""Times the prediction of pictures by a trained network: by budget, and of one that is large."""

import time

import jax
import numpy as np

from benchmarks import ours, peak
from benchmarks.results_file import ResultsFile
from benchmarks.timing import Sample, alternate
from segdiff_jax import api
from segdiff_jax.config.allowed import BUDGETS

COUNT = 16  # pictures of one measurement


def measure(name: str, side: int, large: int, repeats: int, results: ResultsFile) -> None:
    """Adds a line for each budget, and one for the large picture, to the part "throughput".

    Pictures are noise: only their size matters. What is timed gives the probability in rows; files,
    objects and certainty are not part of it.

    Args:
      name: of the network, see `segdiff_jax.load`.
      side: of the pictures, pixels.
      large: side of the large one; 0: none.
      repeats: measurements of each budget after its warm-up.
      results: the file.
    """
    images = [example.image for example in ours.made_up(COUNT, side)]
    devices = {"devices": [device.device_kind for device in jax.devices()]}
    models = {budget: api.load(name, budget=budget) for budget in BUDGETS}
    for budget, model in models.items():
        seconds = alternate({"all": lambda m=model: _predict(m, images)}, repeats)["all"]
        rate = Sample(tuple(COUNT / value for value in seconds.values))
        figures = {"median": rate.median, "low": rate.low, "high": rate.high}
        results.add(
            "throughput", "pictures a second", budget=budget, side=side, **figures, **devices
        )
    if not large:
        return
    image = np.random.default_rng(0).integers(0, 256, (large, large, 3), np.uint8)
    for budget in BUDGETS[:2]:
        start = time.monotonic()
        _predict(models[budget], [image])
        taken = {"seconds": time.monotonic() - start, "device_bytes": peak.device_peak()}
        results.add("throughput", "large picture", budget=budget, side=large, **taken, **devices)


def _predict(model: api.Model, images: list[np.ndarray]) -> None:
    """Predicts all rows of images and keeps none."""
    for _ in model.bands(images):
        pass
