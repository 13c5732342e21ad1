"""The cells of every grid, derived from one config. Needs no jax.

A cell is a training and a measurement of what was learned. Cells with equal trainings share one
run, and cells that also have equal measurements share one result: each directory is named after a
hash of the config fields that its content depends on.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ml_collections import ConfigDict

from segdiff_jax.config import SCORING_FIELDS, flatten
from segdiff_jax.experiments import recipe

Measure = Literal["scores", "generations", "reverse", "seconds", "joint", "certainty"]


class Values(NamedTuple):
    """The values that the grids go through; the defaults are the paper's where it names them.

    Attributes:
      T: diffusion steps.
      blocks: RRDB blocks of G.
      images: training images; 0: all.
      generations: the largest number of generations to average.
      seeds: of the trainings of "recipe" and "certainty".
      variants: of "recipe", see `recipe.VARIANTS`.
      twin_steps: updates of the twin there; 0: as many as the others.
    """

    T: tuple[int, ...] = (25, 50, 75, 100, 150, 200)
    blocks: tuple[int, ...] = (1, 3, 5, 10, 15, 20, 25)
    images: tuple[int, ...] = (4, 8, 16, 0)
    generations: int = 30
    seeds: tuple[int, ...] = (0, 1, 2)
    variants: tuple[str, ...] = tuple(recipe.VARIANTS)
    twin_steps: int = 0


class Cell(NamedTuple):
    """One cell of a grid.

    Attributes:
      grid: one of `GRIDS`.
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
ALL_STEPS = {"sampling.steps": 0}  # whatever the config's sampler
ONE_PASS = {**ALL_STEPS, "sampling.generations": 1, "train.noise_draws_per_image": 1}
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


def _overrides(values: Values) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the overrides of every cell by the names of its grid and its own."""
    most, each_T = values.generations, {f"T{T}": {"diffusion.T": T, **ALL_STEPS} for T in values.T}
    return {
        "conditioning": CONDITIONING,
        "baselines": {kind: {"model.kind": kind, **ONE_PASS} for kind in ("twin", "unet")},
        "steps": each_T,
        "blocks": {f"blocks{n}": {"model.rrdb_blocks": n} for n in values.blocks},
        "images": {f"images{n}" if n else "all": {"data.train_images": n} for n in values.images},
        "generations": {f"up-to-{most}": {"sampling.generations": most}},
        "reverse": {"all-steps": ALL_STEPS},
        "seconds": each_T,
        "differences": DIFFERENCES,
        **dict.fromkeys(
            (recipe.GRID, recipe.CERTAINTY),
            recipe.cells(values.seeds, values.variants, values.twin_steps),
        ),
    }


GRIDS = tuple(_overrides(Values()))
PAPER_GRIDS = tuple(  # run if none is named
    grid for grid in GRIDS if grid not in (recipe.GRID, recipe.CERTAINTY)
)
PAPER: dict[str, Any] = {
    "sampling.budget": "paper",
    "sampling.samples": 0,
}  # the mean of generations
MEASURED: dict[str, Measure] = {
    "generations": "generations",
    "reverse": "reverse",
    "seconds": "seconds",
    recipe.GRID: "joint",
    recipe.CERTAINTY: "certainty",
}
# prefixes of the config fields that no trained weight depends on
AFTER_TRAINING = ("sampling.", "diffusion.clip_x0", *SCORING_FIELDS, "data.test_split")
# where this machine keeps the data; another may keep the same data elsewhere
LOCATION_FIELDS = ("data.dir", "data.prepared_dir")
# fields that change results by rounding only, or not at all
NO_EFFECT = (
    *("train.map", "train.log_every", "train.checkpoint_every", "train.draws_at_once"),
    *("train.max_seconds", "train.skip_nonfinite", "sampling.rows_at_once", "job."),
    *("model.rrdb_form", "model.remat", "data.fingerprint", "data.allow_change"),
    "data.objects",
    "data.pixel_size",
)


def plan(values: Values, grids: tuple[str, ...]) -> list[Cell]:
    """Returns the cells of the grids, in their order."""
    known = _overrides(values)
    return [
        Cell(
            grid, name, over | (PAPER if grid in PAPER_GRIDS else {}), MEASURED.get(grid, "scores")
        )
        for grid in grids
        for name, over in known[grid].items()
    ]


def cell_config(base: ConfigDict, cell: Cell) -> ConfigDict:
    """Returns the config of a cell. It may be contradictory: `validate.check` finds out."""
    config = base.copy_and_resolve_references().unlock()
    for key, value in cell.overrides.items():
        *groups, field = key.split(".")
        functools.reduce(ConfigDict.__getitem__, groups, config)[field] = value
    return config.lock()


def training_hash(config: ConfigDict) -> str:
    """Returns the name of the run that is trained with a config."""
    return _hash(config, (*AFTER_TRAINING, "train.result"))


def measurement_hash(config: ConfigDict, measure: Measure) -> str:
    """Returns the name of the measurement that is made with a config."""
    return _hash(config, (), measure=measure)


def _hash(config: ConfigDict, left_out: tuple[str, ...], **more: str) -> str:
    left_out = (*left_out, *LOCATION_FIELDS, *NO_EFFECT)
    fields = {k: v for k, v in flatten(config).items() if not k.startswith(left_out)} | more
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


class CellPaths(NamedTuple):
    """The directories of a cell: the work directory of its training, and its measurement."""

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
    """Returns a directory of its own, because training locks its work directory itself."""
    return directory.parents[1] / "locks" / directory.name


def cell_paths(directory: Path, config: ConfigDict, measure: Measure) -> CellPaths:
    """Returns the directories, within that of the grid, of a cell with this config."""
    return CellPaths(
        directory / "runs" / training_hash(config),
        directory / "answers" / measurement_hash(config, measure),
    )
