"""Training steps of the tiny network on one fixed batch, on any number of devices."""

from dataclasses import replace
from functools import cache, partial

import jax
import numpy as np
from tiny_config import mesh_of, tiny

from segdiff_jax.data.example import Batch
from segdiff_jax.factory import training
from segdiff_jax.runtime import distributed
from segdiff_jax.training.step import init_state

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), np.uint8)
BATCH = Batch(IMAGES, (IMAGES[..., 0] > 127).astype(np.uint8))


def perturbed_state(config, spread):
    """Returns a state on the host whose weights are a normal draw from the initial ones.

    Fresh networks predict zero and hide most of their gradients.
    """
    make = partial(init_state, training.objective(config), training.optimizer(config), (16, 16))
    state = jax.jit(make, compiler_options={"xla_backend_optimization_level": 0})(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 1000))
    params = jax.tree.map(
        lambda x: x + spread * jax.random.normal(next(keys), x.shape), state.params
    )
    return jax.tree.map(np.asarray, state.replace(params=params, ema_params=params))


def mapped_step(mesh, kind="shard_map", optimizer=None, config=None, guarded=True):
    learner = training.learner(config or tiny())
    learner = replace(learner, optimizer=optimizer or learner.optimizer)
    step = learner.train_step if guarded else learner.update
    return distributed.map_step(step, mesh, kind)


# tests that share an optimizer share its program
step_of_tiny = cache(mapped_step)


def run_steps(
    fresh,
    steps=1,
    devices=1,
    kind="shard_map",
    optimizer=None,
    config=None,
    batch=BATCH,
    guarded=True,
):
    """Returns the state and the metrics of each step, on the host."""
    mesh = mesh_of(devices)
    tiny_ones = config is None and optimizer is not None
    make = step_of_tiny if tiny_ones else mapped_step
    step = make(mesh, kind, optimizer, config, guarded)
    optimizer = optimizer or training.optimizer(config or tiny())
    state = distributed.replicate(fresh.replace(opt_state=optimizer.init(fresh.params)), mesh)
    rows = distributed.split_rows(batch, mesh)
    seen = []
    for _ in range(steps):
        state, metrics = step(state, rows, jax.random.key(5))
        seen.append({name: float(metrics[name]) for name in ("loss", "mse", "grad_norm")})
    return jax.tree.map(np.asarray, state), seen


def largest_difference(a, b):
    return max(
        float(np.abs(x - y).max())
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
