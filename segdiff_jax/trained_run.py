"""A trained run, opened to be asked: its averaged weights, and the images it is asked about."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax.checkpoint import manager, run_config
from segdiff_jax.data.example import Example
from segdiff_jax.errors import UserError
from segdiff_jax.factory import datasets, networks, samplers
from segdiff_jax.inference.segmentation import Segmenter
from segdiff_jax.models.segdiff import Params
from segdiff_jax.runtime import distributed, watchdog


class TrainedRun(NamedTuple):
    """A trained run, and what it is asked about.

    Attributes:
      config: with mean and standard deviation of the images it was trained on.
      step: updates that were made.
      params: the averaged weights, on every device of the mesh.
      mesh: of all devices.
      examples: of the test split, as they are answered and scored.
    """

    config: ConfigDict
    step: int
    params: Params
    mesh: Mesh
    examples: list[Example]

    @property
    def segmenter(self) -> Segmenter:
        """What answers, with the sampling settings of the config."""
        return samplers.segmenter(self.config, self.params, self.mesh)


def load(config: ConfigDict, workdir: Path) -> TrainedRun:
    """Reads the averaged weights of a run, and the images of its test split.

    Raises:
      UserError: there is no checkpoint, or the data do not fit.
    """
    if not config.data.test_split:
        raise UserError("config.data.test_split='': must name a split to score")
    mesh = distributed.all_devices()
    config = run_config.check_evaluation(config, workdir)
    watchdog.expect_compilation("the start of the evaluation")
    step, params = restore_ema(config, workdir, mesh)
    return TrainedRun(
        config, step, params, mesh, datasets.scored_examples(config, config.data.test_split)
    )


def restore_ema(config: ConfigDict, workdir: Path, mesh: Mesh) -> tuple[int, Params]:
    """Returns (step, averaged weights) of a run, on every device of the mesh."""
    model = networks.model(config)
    side = networks.multiple(config)  # the smallest input there is
    shapes = jax.eval_shape(
        model.init,
        jax.random.key(0),
        jnp.zeros((1, side, side, 3)),
        jnp.zeros((1, side, side, 1)),
        jnp.ones((1,), jnp.int32),
    )["params"]
    checkpoints = manager.Checkpoints(workdir, writes=False)
    like = manager.abstract(shapes, distributed.everywhere(mesh))
    found = checkpoints.restore_ema(like, config.train.result)
    checkpoints.close()
    return found
