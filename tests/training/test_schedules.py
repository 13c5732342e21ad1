"""The optimizer and what changes with the number of the step, by their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_config import tiny

from segdiff_jax.data.example import Batch
from segdiff_jax.factory import training
from segdiff_jax.training.step import Learner, TrainState

GRADIENT = np.array([3.0, -4.0], np.float32)  # of norm 5


class Plane:
    """An objective whose gradient is GRADIENT, and whose loss knows nothing else."""

    def loss(self, params, batch, keys, strata=None, weights=None):
        rows = len(batch.mask)
        return jnp.sum(params * GRADIENT), (jnp.zeros(rows), jnp.zeros(rows))


def averages(config, steps):
    """Returns the averaged weights after each step of sgd(1) on the plane, from zeros."""
    learner = Learner(Plane(), optax.sgd(1.0), training.ema_decay(config), "rows")
    zeros = jnp.zeros(2)
    state = TrainState(jnp.int32(0), zeros, zeros, learner.optimizer.init(zeros))
    rows = Batch(np.zeros((1, 1, 4, 4, 3), np.uint8), np.zeros((1, 1, 4, 4), np.uint8))
    step = jax.vmap(learner.update, (None, 0, None), out_axes=None, axis_name="rows")
    seen = []
    for _ in range(steps):
        state, _ = step(state, rows, jax.random.key(0))
        seen.append(np.asarray(state.ema_params))
    return seen


def test_the_average_of_step_n_has_the_decay_of_n():
    config = tiny()
    config.train.ema_warmup, config.train.ema_decay = True, 0.3
    average = np.zeros(2)
    for n, found in enumerate(averages(config, 4), start=1):
        decay = min(0.3, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * (-n * GRADIENT)
        np.testing.assert_allclose(found, average, rtol=1e-6)


def test_the_average_does_not_warm_up_unless_asked():
    config = tiny()
    config.train.ema_warmup, config.train.ema_decay = False, 0.3
    np.testing.assert_allclose(averages(config, 1)[0], -0.7 * GRADIENT, rtol=1e-6)


def test_the_learning_rate_rises_from_0_and_falls_by_a_cosine_to_0():
    config = tiny()
    config.train.learning_rate, config.train.steps = 2.0, 110
    config.train.warmup_steps, config.train.decay = 10, "cosine"
    rate = training.learning_rate(config)
    assert [float(rate(n)) for n in (0, 5, 10)] == pytest.approx([0.0, 1.0, 2.0])
    for n in (35, 60, 85):
        assert float(rate(n)) == pytest.approx(1 + np.cos(np.pi * (n - 10) / 100), abs=1e-6)
    assert float(rate(110)) == pytest.approx(0.0, abs=1e-6)


def test_a_constant_rate_stays_after_its_rise():
    config = tiny()
    config.train.learning_rate, config.train.warmup_steps = 2.0, 4
    rate = training.learning_rate(config)
    assert [float(rate(n)) for n in (0, 2, 4, 1000)] == pytest.approx([0.0, 1.0, 2.0, 2.0])


@pytest.mark.parametrize("clip", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_an_update_is_adam_s_of_the_clipped_gradient_and_the_decay_of_weights(clip, decay):
    config = tiny()
    config.train.learning_rate, config.train.warmup_steps = 0.5, 0
    config.train.clip_norm, config.train.weight_decay = clip, decay
    optimizer = training.optimizer(config)
    weights = jnp.array([1.0, -2.0])
    state, mean, square = optimizer.init(weights), np.zeros(2), np.zeros(2)
    for n, size in enumerate((1.0, 0.5, 3.0), start=1):  # Adam forgets the size of the first
        gradient = size * GRADIENT
        update, state = optimizer.update(jnp.asarray(gradient), state, weights)
        clipped = gradient * (min(1.0, clip / (5 * size)) if clip else 1.0)
        mean = 0.9 * mean + 0.1 * clipped
        square = 0.999 * square + 0.001 * clipped**2
        direction = (mean / (1 - 0.9**n)) / (np.sqrt(square / (1 - 0.999**n)) + 1e-8)
        expected = -0.5 * (direction + decay * np.asarray(weights))
        np.testing.assert_allclose(update, expected, rtol=1e-4)
        weights = weights + update


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_is_reduced_as_the_config_says(reduction):
    config = tiny()
    config.train.loss = reduction
    assert training.objective(config).reduction == reduction


def test_the_share_of_updates_at_pure_noise_is_of_all_updates():
    config = tiny()
    config.diffusion.prediction = "logit"
    config.train.draws, config.train.noise_draws_per_image = "T+uniform", 2
    config.train.steps, config.train.share_at_T = 50, 0.3
    learner = training.learner(config)
    assert learner.first_steps == 15
    assert learner.first is not None and learner.first.draws == 1 and learner.objective.draws == 2
