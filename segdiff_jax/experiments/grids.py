"""What there is to run: the cells of every grid, from one config; needs no jax.

A cell is a training and a measurement of what it learned. Two cells that train the same share the
run, and two that also measure the same share the answer: each is named after a hash of the knobs
it depends on.
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
    """What the grids go through; the paper's, where it says.

    Attributes:
      T: diffusion steps.
      blocks: RRDB blocks of G.
      images: training images; 0: all.
      generations: averaged, from 1 up to this.
    """

    T: tuple[int, ...] = (25, 50, 75, 100, 150, 200)
    blocks: tuple[int, ...] = (1, 3, 5, 10, 15, 20, 25)
    images: tuple[int, ...] = (4, 8, 16, 0)
    generations: int = 30


class Cell(NamedTuple):
    """One cell of a grid.

    Attributes:
      grid: a key of `GRIDS`.
      name: within the grid.
      overrides: dotted knobs that differ from the config of the grid.
      measure: what is asked of the trained network.
    """

    grid: str
    name: str
    overrides: dict[str, Any]
    measure: Measure = "scores"

    @property
    def title(self) -> str:
        """Its name among all cells."""
        return f"{self.grid}/{self.name}"


ONE_PASS = {
    "sampling.generations": 1,
    "sampling.steps": 0,
    "train.noise_draws_per_image": 1,
}


CONDITIONING = {  # the rows of the paper's Table 4
    "full": {},
    "one": {"model.conditioning": "concat"},
    "two": {"model.encoder": "hardnet"},
    "three": {"model.conditioning": "stack"},
    "four": {"model.conditioning": "inject1"},
    "five": {"model.conditioning": "inject3"},
    "six": {"model.conditioning": "inject5"},
}


DIFFERENCES = {  # one side each of what paper and code disagree on; the others are the config's
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


Plan = Callable[[Values], list[Cell]]


def _named(grid: str, table: Mapping[str, Mapping[str, Any]]) -> Plan:
    return lambda values: [Cell(grid, name, dict(over)) for name, over in table.items()]


def _diffusion_steps(grid: str, measure: Measure) -> Plan:
    """All T steps are gone, whatever the config's sampler does."""
    return lambda values: [
        Cell(grid, f"T{T}", {"diffusion.T": T, "sampling.steps": 0}, measure) for T in values.T
    ]


GRIDS: dict[str, Plan] = {
    "conditioning": _named("conditioning", CONDITIONING),
    "baselines": _named(
        "baselines",
        {kind: {"model.kind": kind, **ONE_PASS} for kind in ("twin", "unet")},
    ),
    "steps": _diffusion_steps("steps", "scores"),
    "blocks": lambda values: [
        Cell("blocks", f"blocks{n}", {"model.rrdb_blocks": n}) for n in values.blocks
    ],
    "images": lambda values: [
        Cell("images", f"images{n}" if n else "all", {"data.train_images": n})
        for n in values.images
    ],
    "generations": lambda values: [
        Cell(
            "generations",
            f"up-to-{values.generations}",
            {"sampling.generations": values.generations},
            "generations",
        )
    ],
    "reverse": lambda values: [Cell("reverse", "all-steps", {"sampling.steps": 0}, "reverse")],
    "seconds": _diffusion_steps("seconds", "seconds"),
    "differences": _named("differences", DIFFERENCES),
}


# knobs that no trained weight depends on, and those that no score depends on
AFTER_TRAINING = ("sampling.", "diffusion.clip_x0", "cityscapes.test_expansion", "data.test_split")


LOCATION_FIELDS = (
    "data.dir",
    "data.prepared_dir",
)  # another machine may keep the same data elsewhere


NO_EFFECT = (  # the same numbers, but for rounding, come out of any of these
    *("train.map", "train.log_every", "train.checkpoint_every", "sampling.rows_at_once", "job."),
    "train.draws_at_once",
    *("train.max_seconds", "train.skip_nonfinite", "model.rrdb_form", "model.remat"),
)


def plan(values: Values, grids: tuple[str, ...]) -> list[Cell]:
    """Returns the cells of the grids, in their order."""
    return [cell for grid in grids for cell in GRIDS[grid](values)]


def configured(base: ConfigDict, cell: Cell) -> ConfigDict:
    """Returns the config of a cell; it may be contradictory, which `validate.check` says."""
    config = base.copy_and_resolve_references().unlock()
    for key, value in cell.overrides.items():
        *groups, knob = key.split(".")
        functools.reduce(ConfigDict.__getitem__, groups, config)[knob] = value
    return config.lock()


def training_hash(config: ConfigDict) -> str:
    """Returns the name of the run that trains by this config."""
    return _hash(_without(config, (*AFTER_TRAINING, "train.result")))


def answer_hash(config: ConfigDict, measure: Measure) -> str:
    """Returns the name of what is measured by this config."""
    return _hash(_without(config, ()) | {"measure": measure})


def _without(config: ConfigDict, prefixes: tuple[str, ...]) -> dict[str, Any]:
    left_out = (*prefixes, *LOCATION_FIELDS, *NO_EFFECT)
    return {k: v for k, v in flatten(config).items() if not k.startswith(left_out)}


def _hash(knobs: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(knobs, sort_keys=True).encode()).hexdigest()[:12]


class Places(NamedTuple):
    """Where a cell is kept.

    Attributes:
      run: work directory of the training.
      answer: folder of what is measured.
    """

    run: Path
    answer: Path


def places(directory: Path, config: ConfigDict, measure: Measure) -> Places:
    """Returns where in the directory of a grid a cell of this config is kept."""
    return Places(
        directory / "runs" / training_hash(config),
        directory / "answers" / answer_hash(config, measure),
    )
