"""A few images of a split with their masks, kept for figures that show masks."""

from pathlib import Path
from typing import Any

import numpy as np

from segdiff_jax.inference.averaging import average
from segdiff_jax.runtime.files import atomic_write

FILE = "pictures.npz"


KEPT, DRAWN, SHOWN = 4, 4, 6  # images; generations of each; places along a chain


class SampleRecorder:
    """Keeps the first images it is shown."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.count = 0

    def __call__(self, answer: Any) -> None:
        """Keeps an `scoring.ScoredPrediction`, unless there are enough."""
        if self.count < KEPT:
            size = answer.example.mask.shape
            single = [average(one[None], size) for one in answer.generations[:DRAWN]]
            self._keep(answer.example, mean=answer.probability, generations=np.stack(single))

    def path(self, example: Any, paths: np.ndarray) -> None:
        """Keeps some places of a chain, averaged over generations: paths is [S, steps, H, W]."""
        if self.count < KEPT:
            places = np.unique(np.linspace(0, paths.shape[1] - 1, SHOWN).round().astype(int))
            size = example.mask.shape
            means = np.stack([average(paths[:, place], size) for place in places])
            self._keep(example, path=means)
            self.arrays["steps"] = places + 1

    def _keep(self, example: Any, **maps: np.ndarray) -> None:
        soft = {name: np.rint(255 * value).astype(np.uint8) for name, value in maps.items()}
        for name, value in {"image": example.image, "truth": example.mask, **soft}.items():
            self.arrays[f"{self.count}-{name}"] = value
        self.arrays[f"{self.count}-name"] = np.array(example.name)
        self.count += 1

    def save(self, folder: Path) -> None:
        """Writes what was kept; maps as uint8, 255 is 1."""
        with atomic_write(folder / FILE) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays)


def load(folder: Path) -> list[dict[str, np.ndarray]]:
    """Returns what was kept of each image: image, truth, and maps in 0..1 as float32.

    "steps", if there, is the number of reverse steps before each map of "path".
    """
    if not (folder / FILE).exists():
        return []
    with np.load(folder / FILE, allow_pickle=False) as stored:
        arrays = dict(stored)
    steps = {"steps": arrays.pop("steps")} if "steps" in arrays else {}
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        number, name = key.split("-")
        soft = name in ("mean", "generations", "path")
        found.setdefault(number, {**steps})[name] = value / np.float32(255) if soft else value
    return list(found.values())
