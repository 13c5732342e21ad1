"""Builds the objective, the optimizer, the learning rate and the compiled step from a config."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax.factory.datasets import augmentation
from segdiff_jax.factory.networks import choose, model, one_pass
from segdiff_jax.factory.samplers import prediction, schedule
from segdiff_jax.runtime import distributed
from segdiff_jax.training import flat_state
from segdiff_jax.training.loss import CrossEntropyObjective, DenoisingObjective, Objective
from segdiff_jax.training.step import TrainState, init_state, train_step


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """Returns updates made -> learning rate: a linear warm-up, then constant or a cosine to 0."""
    c = config.train
    constant = optax.constant_schedule(c.learning_rate)
    falling = optax.cosine_decay_schedule(c.learning_rate, max(c.steps - c.warmup_steps, 1))
    rate = choose({"constant": constant, "cosine": falling}, c.decay, "train.decay")
    if not c.warmup_steps:
        return rate
    rising = optax.linear_schedule(0.0, c.learning_rate, c.warmup_steps)
    return optax.join_schedules([rising, rate], [c.warmup_steps])


def optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Returns AdamW with PyTorch's defaults, after clipping if it is on.

    It is given all parameters as one vector (`flat`), so it must treat every array alike.
    """
    c = config.train
    clip = [optax.clip_by_global_norm(c.clip_norm)] if c.clip_norm else []
    return optax.chain(*clip, optax.adamw(learning_rate(config), weight_decay=c.weight_decay))


def ema_decay(config: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """Returns number of the update (from 1) -> decay of the moving average of the weights."""
    decay, warmup = config.train.ema_decay, config.train.ema_warmup

    def at(step: jax.Array) -> jax.Array:
        n = step.astype(jnp.float32)
        return jnp.minimum(decay, (1 + n) / (10 + n)) if warmup else jnp.float32(decay)

    return at


def objective(config: ConfigDict) -> Objective:
    """Returns what training minimises."""
    common = {
        "model": model(config),
        "augment": augmentation(config),
        "mean": tuple(config.data.mean),
        "std": tuple(config.data.std),
        "reduction": config.train.loss,
    }
    if one_pass(config):
        return CrossEntropyObjective(**common)
    return DenoisingObjective(
        schedule=schedule(config),
        prediction=prediction(config),
        draws=config.train.noise_draws_per_image,
        at_once=draws_at_once(config),
        **common,
    )


def draws_at_once(config: ConfigDict) -> int:
    """Returns how many draws of an image are denoised together; on a CPU one is fastest."""
    automatic = 1 if jax.default_backend() == "cpu" else config.train.noise_draws_per_image
    return config.train.draws_at_once or automatic


def init_fn(config: ConfigDict, size: tuple[int, int]) -> Callable[[], TrainState]:
    """Returns what makes fresh weights, a function of the seed; it is traced once.

    Args:
      config: of the run.
      size: (H, W) of the network's input.
    """
    fresh = partial(init_state, objective(config), optimizer(config), size)

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
    return jit_replicated(init_fn(config, size), mesh)


def jit_replicated(begin: Callable[[], TrainState], mesh: Mesh) -> Callable[[], TrainState]:
    """Compiles a function of no arguments whose result lies on every device of the mesh."""
    # a draw and thousands of small cuts: optimizing them takes a CPU seconds and saves nothing
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(begin, out_shardings=distributed.everywhere(mesh), compiler_options=options)


def run_key(seed: int, mesh: Mesh) -> jax.Array:
    """Returns the key all randomness of training follows from, on every device."""
    make = partial(jax.random.fold_in, jax.random.key(seed), 1)
    return jax.jit(make, out_shardings=distributed.everywhere(mesh))()


def build_step(config: ConfigDict, mesh: Mesh, layout: flat_state.FlatLayout) -> Callable:
    """Returns (state, rows, key) -> (state, metrics), compiled and mapped over the mesh.

    The state is one that `layout` has joined.
    """
    step = partial(
        train_step,
        objective=objective(config),
        optimizer=optimizer(config),
        ema_decay=ema_decay(config),
        split=layout.unflatten,
    )
    return distributed.map_step(step, mesh, config.train.map)
