"""One update of two weights: the norm of the gradient, and a gradient that is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segdiff_jax.data.example import Batch
from segdiff_jax.training.step import Learner, TrainState

ROWS = Batch(np.zeros((1, 2, 4, 4, 3), np.uint8), np.zeros((1, 2, 4, 4), np.uint8))


class Roots:
    """An objective whose loss is the sum of the roots of the weights, of every row."""

    def loss(self, params, batch, keys, strata=None, weights=None):
        total = jnp.sum(jnp.sqrt(params)) + jnp.zeros(len(keys))
        return jnp.mean(total), (total, total)


def step(params, rate):
    """Returns the state before and after a step of gradient descent, and its metrics."""
    learner = Learner(Roots(), optax.sgd(rate), lambda step: jnp.float32(0.9), "rows")
    params = jnp.array(params)
    state = TrainState(jnp.int32(7), params, params, learner.optimizer.init(params))
    of = jax.vmap(learner.train_step, (None, 0, None), out_axes=None, axis_name="rows")
    return state, *of(state, ROWS, jax.random.key(0))


def test_the_gradient_norm_is_that_of_the_gradient_whatever_the_rate():
    state, after, metrics = step([0.25, 4.0], 0.1)
    gradient = np.array([1.0, 0.25])  # 1 / (2 sqrt(w))
    assert float(metrics["grad_norm"]) == pytest.approx(np.linalg.norm(gradient), rel=1e-6)
    np.testing.assert_allclose(after.params, state.params - 0.1 * gradient, rtol=1e-6)


def test_an_infinite_gradient_of_a_finite_loss_changes_the_count_alone():
    state, after, metrics = step([0.0, 4.0], 0.1)
    assert float(metrics["loss"]) == 2 and np.isinf(metrics["grad_norm"])
    assert int(after.step) == 8
    np.testing.assert_array_equal(after.params, state.params)
    np.testing.assert_array_equal(after.ema_params, state.ema_params)
