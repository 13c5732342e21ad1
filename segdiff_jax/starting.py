"""What a training starts from: the latest checkpoint, or fresh weights."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax import build, checkpoint, flat, interruption, parallel
from segdiff_jax.data.example import Example
from segdiff_jax.step import TrainState, init_state


class Start:
    """The beginning of a training.

    Attributes:
      shapes: of the state, with how they lie on the devices; known before there is a state.
      layout: of the vectors that updates take in place of its trees.
    """

    def __init__(self, config: ConfigDict, examples: list[Example], mesh: Mesh) -> None:
        """Holds the examples to what the network takes.

        Raises:
          UserError: an example's sides are not what the network can halve as often as it does.
        """
        view = build.view(config)
        size = view(np.random.default_rng(0), examples[0])[1].shape
        build.check_size(config, size, examples[0].name)
        short = sum(min(e.image.shape[:2]) < config.augment.crop for e in examples)
        if short and config.data.name != "cityscapes":
            logging.warning(
                "%d of %d training images are smaller than augment.crop=%d: reflected at the "
                "border",
                short,
                len(examples),
                config.augment.crop,
            )
        fresh = beginning(config, size)
        self.shapes = checkpoint.abstract(jax.eval_shape(fresh), parallel.everywhere(mesh))
        self.layout = flat.Layout(self.shapes.params)

        def begin() -> TrainState:
            return self.layout.join_state(fresh())

        # as vectors at once: a program of 574 results, and one that joins them, load slowly
        self._program = _everywhere(begin, mesh)

    def state(self, checkpoints: checkpoint.Checkpoints) -> TrainState:
        """Returns the latest checkpoint, or fresh weights that are a function of the seed.

        Either is joined by `layout`.
        """
        found = checkpoints.restore(split_state(self.shapes))
        if found is not None:
            return self.layout.joined(TrainState(ema_params=found[0], **found[1]))
        return interruption.interruptible(self._program)


def beginning(config: ConfigDict, size: tuple[int, int]) -> Callable[[], TrainState]:
    """Returns what makes fresh weights, a function of the seed; it is traced once.

    Args:
      config: of the run.
      size: (H, W) of the network's input.
    """
    fresh = partial(init_state, build.objective(config), build.optimizer(config), size)

    def begin() -> TrainState:
        return fresh(jax.random.key(config.seed))

    return jax.jit(begin)


def fresh_state(config: ConfigDict, size: tuple[int, int], mesh: Mesh) -> Callable[[], TrainState]:
    """Returns the program that makes fresh weights, a function of the seed, on every device.

    Args:
      config: of the run.
      size: (H, W) of the network's input.
      mesh: of all devices.
    """
    return _everywhere(beginning(config, size), mesh)


def _everywhere(begin: Callable[[], TrainState], mesh: Mesh) -> Callable[[], TrainState]:
    # a draw and thousands of small cuts: optimizing them takes a CPU seconds and saves nothing
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(begin, out_shardings=parallel.everywhere(mesh), compiler_options=options)


def split_state(state: TrainState) -> tuple[dict, dict]:
    """The two parts of a checkpoint: the averaged weights, and the rest."""
    return state.ema_params, {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
    }
