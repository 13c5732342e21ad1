"""The factory: every config becomes objects, and contradictory settings are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from tiny_config import config_of, tiny

from segdiff_jax.errors import UserError
from segdiff_jax.evaluation import scoring
from segdiff_jax.factory import networks, samplers, training


@pytest.mark.parametrize(
    ("name", "argument"), [("monuseg", ""), ("monuseg", "small"), ("synthetic", "")]
)
def test_every_config_builds(name, argument):
    config = config_of(name, argument)
    objective = training.objective(config)
    steps = samplers.reverse_steps(config, objective.schedule)
    assert len(steps.t) == (config.sampling.steps or config.diffusion.T)
    training.optimizer(config)


@pytest.mark.parametrize(
    ("group", "key", "make"),
    [
        ("diffusion", "schedule", samplers.schedule),
        ("model", "conditioning", networks.model),
        ("model", "kind", networks.model),
        ("model", "encoder", networks.model),
        ("model", "dtype", networks.model),
        ("sampling", "sampler", lambda c: samplers.reverse_steps(c, samplers.schedule(c))),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(group, key, make):
    config = tiny()
    config[group][key] = "bogus"
    with pytest.raises(UserError, match=rf"{group}\.{key} is 'bogus'; allowed: '"):
        make(config)


def test_a_schedule_that_reaches_beta_1_is_refused_by_its_key():
    config = tiny()
    config.diffusion.T = 20
    with pytest.raises(UserError, match=r"diffusion\.schedule is 'linear'.*T >= 21"):
        samplers.schedule(config)


def test_a_schedule_that_leaves_signal_runs_with_a_warning(monkeypatch):
    logged = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: logged.append(text % values))
    config = tiny()
    samplers.schedule(config)
    assert not logged
    config.diffusion.schedule = "linear_unscaled"
    assert samplers.schedule(config).T == 100
    assert len(logged) == 1 and "36 %" in logged[0]


def test_the_optimizer_takes_the_steps_of_adam_as_its_paper_writes_them():
    config = tiny()
    config.train.learning_rate = 0.1
    optimizer = training.optimizer(config)
    x, m, v = np.array([1.0, -2.0, 3.0]), 0.0, 0.0
    ours, state = jnp.asarray(x), optimizer.init(jnp.asarray(x))
    for t in range(1, 4):
        gradient = np.array([0.5, -1.0, 0.01]) * t
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        x = x - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        updates, state = optimizer.update(jnp.asarray(gradient), state, ours)
        ours = ours + updates
    # 0.999^t is off by 2^-25, and so the root of 1 - 0.999^t by 1.5e-5 of it, in updates of 0.1
    np.testing.assert_allclose(ours, x, rtol=0, atol=2 * 3 * 0.1 * 1.5e-5)


@pytest.mark.parametrize(
    ("decay", "at", "rate"),
    [("constant", 0, 0.0), ("constant", 5, 0.05), ("constant", 50, 0.1)]
    + [("cosine", 10, 0.1), ("cosine", 60, 0.05), ("cosine", 110, 0.0)],
)
def test_the_learning_rate_warms_up_and_then_stays_or_falls(decay, at, rate):
    config = tiny()
    config.train.update({"learning_rate": 0.1, "warmup_steps": 10, "steps": 110, "decay": decay})
    assert float(training.learning_rate(config)(at)) == pytest.approx(rate, abs=1e-6)


def test_a_gradient_above_the_norm_is_cut_to_it():
    config = tiny()
    config.train.clip_norm = 1.0
    optimizer = training.optimizer(config)
    large, small = jnp.array([30.0, 40.0]), jnp.array([0.6, 0.8])
    one = optimizer.update(large, optimizer.init(large), large)[0]
    other = optimizer.update(small, optimizer.init(small), small)[0]
    np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(("size", "fits"), [((16, 32), True), ((18, 16), True), ((15, 16), False)])
def test_a_size_that_the_levels_cannot_halve_is_refused(size, fits):
    if fits:
        networks.check_size(tiny(), size, "image")
    else:
        with pytest.raises(UserError, match="image is 15x16; allowed: multiples of 2"):
            networks.check_size(tiny(), size, "image")


def test_predictions_and_evaluations_draw_different_noise():
    config = tiny()
    keys = samplers.prediction_key(config), scoring.noise_key(config.seed), jax.random.key(0)
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3
