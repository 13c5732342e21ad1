"""Records a few images of a split with their sampled masks, for the figures that show masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segdiff_jax.inference.averaging import average
from segdiff_jax.runtime.files import atomic_write

if TYPE_CHECKING:  # a report needs no jax
    from segdiff_jax.data.example import Example
    from segdiff_jax.evaluation.scoring import ScoredPrediction

FILE = "pictures.npz"
IMAGES, GENERATIONS = 4, 4  # recorded; generations of each image
TRAJECTORY_STEPS = 6  # recorded of each trajectory
PROBABILITIES = "mean", "generations", "path"  # stored as uint8, 255 is 1


class SampleRecorder:
    """Records the first `IMAGES` images."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.count = 0

    def __call__(self, prediction: ScoredPrediction) -> None:
        """Records an image, its first generations and the mean of all, unless there are enough."""
        if self.count < IMAGES:
            size = prediction.example.mask.shape
            single = [average(one[None], size) for one in prediction.generations[:GENERATIONS]]
            maps = {"mean": prediction.probability, "generations": np.stack(single)}
            self._record(prediction.example, maps)

    def trajectory(self, example: Example, paths: np.ndarray) -> None:
        """Records an image and the mean over generations after some reverse steps.

        `paths` are the estimates of its mask after each step, [S, steps, H, W].
        """
        if self.count < IMAGES:
            last = paths.shape[1] - 1
            steps = np.unique(np.linspace(0, last, TRAJECTORY_STEPS).round().astype(int))
            means = [average(paths[:, step], example.mask.shape) for step in steps]
            self._record(example, {"path": np.stack(means)})
            self.arrays["steps"] = steps + 1

    def _record(self, example: Example, maps: dict[str, np.ndarray]) -> None:
        arrays = {name: np.rint(255 * value).astype(np.uint8) for name, value in maps.items()}
        arrays |= {"image": example.image, "truth": example.mask, "name": np.array(example.name)}
        self.arrays |= {f"{self.count}-{name}": value for name, value in arrays.items()}
        self.count += 1

    def save(self, folder: Path) -> None:
        """Writes the recorded images to a folder; raises UserError if it cannot be written."""
        with atomic_write(folder / FILE) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays)


def load(folder: Path) -> list[dict[str, np.ndarray]]:
    """Returns the recorded images: image, truth, and probabilities in 0..1 as float32.

    "steps", if there, is the number of reverse steps before each map of "path".
    """
    if not (folder / FILE).exists():
        return []
    with np.load(folder / FILE, allow_pickle=False) as stored:
        arrays = dict(stored)
    steps = {"steps": arrays.pop("steps")} if "steps" in arrays else {}
    images: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        number, name = key.split("-")
        value = value / np.float32(255) if name in PROBABILITIES else value
        images.setdefault(number, {**steps})[name] = value
    return list(images.values())
