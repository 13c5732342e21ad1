"""Small checkpoints whose every value is known from their step."""

import jax
import numpy as np

from segdiff_jax.checkpoint.manager import Checkpoints


def state(step, width=40):
    """Returns (EMA weights, training state) with the random values of a step."""
    rng = np.random.default_rng(step)
    weights = {"a": {"kernel": rng.normal(size=(width, 30)).astype(np.float32)}}
    return weights, {"step": np.array(step, np.int32), "moments": rng.normal(size=(500,))}


def like(trees):
    """Returns the shapes and dtypes of trees of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), trees)


def save(directory, *steps):
    """Saves the states of these steps."""
    checkpoints = Checkpoints(directory)
    for step in steps:
        checkpoints.save(step, *state(step), None)
    checkpoints.close()


def restored(directory):
    """Returns what the newest undamaged checkpoint holds."""
    checkpoints = Checkpoints(directory)
    try:
        return checkpoints.restore(like(state(0)))
    finally:
        checkpoints.close()


def step_of(found):
    """Returns the step of a restored state; every value must be that of this step."""
    step = int(found[1]["step"])
    jax.tree.map(np.testing.assert_array_equal, found, state(step))
    return step
