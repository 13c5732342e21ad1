"""The cells of every grid, derived from one config. Needs no jax.

A cell is a training and a measurement of what was learned. Cells with equal trainings share one
run, and cells that also have equal measurements share one result: each directory is named after a
hash of the config fields that its content depends on.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ml_collections import ConfigDict

from segdiff_jax.config import flatten

Measure = Literal["scores", "generations", "reverse", "seconds"]


class Values(NamedTuple):
    """The values that the grids go through; the defaults are the paper's where it names them.

    Attributes:
      T: diffusion steps.
      blocks: RRDB blocks of G.
      images: training images; 0: all.
      generations: the largest number of generations to average.
    """

    T: tuple[int, ...] = (25, 50, 75, 100, 150, 200)
    blocks: tuple[int, ...] = (1, 3, 5, 10, 15, 20, 25)
    images: tuple[int, ...] = (4, 8, 16, 0)
    generations: int = 30


class Cell(NamedTuple):
    """One cell of a grid.

    Attributes:
      grid: a key of `GRIDS`.
      name: unique within the grid.
      overrides: values of config fields, by dotted name, that differ from the grid's config.
      measure: what is measured of the trained network.
    """

    grid: str
    name: str
    overrides: dict[str, Any]
    measure: Measure = "scores"

    @property
    def title(self) -> str:
        """The name that is unique among the cells of all grids."""
        return f"{self.grid}/{self.name}"


# the rows of the paper's Table 4
CONDITIONING: dict[str, dict[str, Any]] = {
    "full": {},
    "one": {"model.conditioning": "concat"},
    "two": {"model.encoder": "hardnet"},
    "three": {"model.conditioning": "stack"},
    "four": {"model.conditioning": "inject1"},
    "five": {"model.conditioning": "inject3"},
    "six": {"model.conditioning": "inject5"},
}
ONE_PASS = {
    "sampling.generations": 1,
    "sampling.steps": 0,
    "train.noise_draws_per_image": 1,
}
# both sides of each disagreement between paper and code; all other fields are the config's
DIFFERENCES: dict[str, dict[str, Any]] = {
    "schedule-code": {"diffusion.schedule": "linear"},
    "schedule-paper": {"diffusion.schedule": "linear_unscaled"},
    "loss-sum": {"train.loss": "sum"},
    "loss-mean": {"train.loss": "mean"},
    "variance-code": {"sampling.sampler": "ddpm", "sampling.variance": "beta"},
    "variance-paper": {"sampling.sampler": "ddpm", "sampling.variance": "posterior"},
    "clipping-off": {"diffusion.clip_x0": False},
    "clipping-on": {"diffusion.clip_x0": True},
    "generations-code": {"sampling.generations": 9},
    "generations-paper": {"sampling.generations": 30},
}


def _conditioning(values: Values) -> list[Cell]:
    return [Cell("conditioning", name, over) for name, over in CONDITIONING.items()]


def _baselines(values: Values) -> list[Cell]:
    return [Cell("baselines", kind, {"model.kind": kind, **ONE_PASS}) for kind in ("twin", "unet")]


def _steps(values: Values) -> list[Cell]:
    return [Cell("steps", f"T{T}", _all_steps(T)) for T in values.T]


def _seconds(values: Values) -> list[Cell]:
    return [Cell("seconds", f"T{T}", _all_steps(T), "seconds") for T in values.T]


def _all_steps(T: int) -> dict[str, Any]:
    """Returns the overrides for T steps, all of which are taken whatever the config's sampler."""
    return {"diffusion.T": T, "sampling.steps": 0}


def _blocks(values: Values) -> list[Cell]:
    return [Cell("blocks", f"blocks{n}", {"model.rrdb_blocks": n}) for n in values.blocks]


def _images(values: Values) -> list[Cell]:
    return [
        Cell("images", f"images{n}" if n else "all", {"data.train_images": n})
        for n in values.images
    ]


def _generations(values: Values) -> list[Cell]:
    most = values.generations
    return [Cell("generations", f"up-to-{most}", {"sampling.generations": most}, "generations")]


def _reverse(values: Values) -> list[Cell]:
    return [Cell("reverse", "all-steps", {"sampling.steps": 0}, "reverse")]


def _differences(values: Values) -> list[Cell]:
    return [Cell("differences", name, over) for name, over in DIFFERENCES.items()]


GRIDS: dict[str, Callable[[Values], list[Cell]]] = {
    "conditioning": _conditioning,
    "baselines": _baselines,
    "steps": _steps,
    "blocks": _blocks,
    "images": _images,
    "generations": _generations,
    "reverse": _reverse,
    "seconds": _seconds,
    "differences": _differences,
}

# prefixes of the config fields that no trained weight depends on
AFTER_TRAINING = ("sampling.", "diffusion.clip_x0", "cityscapes.test_expansion", "data.test_split")
# where this machine keeps the data; another may keep the same data elsewhere
LOCATION_FIELDS = ("data.dir", "data.prepared_dir")
# fields that change results by rounding only, or not at all
NO_EFFECT = (
    *("train.map", "train.log_every", "train.checkpoint_every", "sampling.rows_at_once", "job."),
    "train.draws_at_once",
    *("train.max_seconds", "train.skip_nonfinite", "model.rrdb_form", "model.remat"),
)


def plan(values: Values, grids: tuple[str, ...]) -> list[Cell]:
    """Returns the cells of the grids, in their order."""
    return [cell for grid in grids for cell in GRIDS[grid](values)]


def cell_config(base: ConfigDict, cell: Cell) -> ConfigDict:
    """Returns the config of a cell. It may be contradictory: `validate.check` finds out."""
    config = base.copy_and_resolve_references().unlock()
    for key, value in cell.overrides.items():
        *groups, field = key.split(".")
        functools.reduce(ConfigDict.__getitem__, groups, config)[field] = value
    return config.lock()


def training_hash(config: ConfigDict) -> str:
    """Returns the name of the run that is trained with a config."""
    return _hash(_without(config, (*AFTER_TRAINING, "train.result")))


def measurement_hash(config: ConfigDict, measure: Measure) -> str:
    """Returns the name of the measurement that is made with a config."""
    return _hash(_without(config, ()) | {"measure": measure})


def _without(config: ConfigDict, prefixes: tuple[str, ...]) -> dict[str, Any]:
    left_out = (*prefixes, *LOCATION_FIELDS, *NO_EFFECT)
    return {k: v for k, v in flatten(config).items() if not k.startswith(left_out)}


def _hash(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


class CellPaths(NamedTuple):
    """The directories of a cell.

    Attributes:
      run: the work directory of the training.
      measurement: what was measured.
    """

    run: Path
    measurement: Path

    @property
    def run_lock(self) -> Path:
        """The directory that the process which trains keeps locked."""
        return _lock(self.run)

    @property
    def measurement_lock(self) -> Path:
        """The directory that the process which measures keeps locked."""
        return _lock(self.measurement)


def _lock(directory: Path) -> Path:
    """A directory of its own, because training locks its work directory itself."""
    return directory.parents[1] / "locks" / directory.name


def cell_paths(directory: Path, config: ConfigDict, measure: Measure) -> CellPaths:
    """Returns the directories, within that of the grid, of a cell with this config."""
    return CellPaths(
        directory / "runs" / training_hash(config),
        directory / "answers" / measurement_hash(config, measure),
    )
