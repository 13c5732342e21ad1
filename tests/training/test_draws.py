"""The draws of an image that share its G(I): their times, their loss, recycled estimates."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_config import tiny

from segdiff_jax.factory import training
from segdiff_jax.training import loss, step
from segdiff_jax.training.loss import DenoisingObjective

KEYS = jax.random.split(jax.random.key(3), 6)
MASKS = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 16, 16)), jnp.uint8)
FEATURES = jnp.zeros((6, 16, 16, 8))


def objective(kind="T+uniform", draws=3, **fields):
    config = tiny()
    config.diffusion.prediction = "logit"
    config.train.draws, config.train.noise_draws_per_image = kind, draws
    made = training.objective(config)
    assert isinstance(made, DenoisingObjective)
    return replace(made, **fields)


@pytest.fixture
def network(monkeypatch):
    """Replaces the network by w x_t + t / 100, whose inputs are seen."""
    seen = []

    def stand_in(model, method, params, x_t, t, features, keys):
        seen.append((x_t, t))
        return params["w"] * x_t + t[:, None, None, None] / 100

    monkeypatch.setattr(loss, "call", stand_in)
    return seen


def test_the_first_draw_is_at_the_largest_time_and_the_others_are_below():
    t = np.asarray(objective().times(KEYS, None))
    assert (t[0] == 100).all()
    assert (t[1:] >= 1).all() and (t[1:] <= 99).all()


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_times_of_a_batch_are_stratified_over_the_rows_of_all_devices(devices):
    """One row in each part of 1..T-1, for every draw."""
    rows = 8
    keys = step.row_keys(jax.random.key(0), jnp.int32(5), jnp.int32(0), rows)
    parts = [
        step.stratified(keys[first : first + rows // devices], jnp.int32(first), rows)
        for first in range(0, rows, rows // devices)
    ]
    strata = jnp.concatenate(parts)
    np.testing.assert_array_equal(np.floor(np.asarray(strata) * rows), np.arange(rows))
    for t in np.asarray(objective(draws=5).times(keys, strata))[1:]:
        # rounding to whole t moves a row over the border of its part at most
        assert (np.abs(np.sort((t - 1) / 99) - np.arange(rows) / rows) <= 1 / rows + 1 / 99).all()


def test_the_other_times_of_an_image_lie_evenly():
    """Of n others one is in each n-th part of 1..T-1, whatever the first of them is."""
    t = np.asarray(objective(draws=5).times(jax.random.split(jax.random.key(2), 200), None))[1:]
    parts = np.sort((t - 1) / 99, axis=0)
    assert np.abs(np.diff(parts, axis=0) - 1 / 4).max() <= 1 / 99 + 1e-6


def test_every_time_below_the_largest_is_equally_likely():
    keys = jax.random.split(jax.random.key(1), 40_000)
    t = np.asarray(objective(draws=2).times(keys, None))[1]
    counts = np.bincount(t, minlength=101)[1:100]
    expected = len(keys) / 99
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_the_loss_of_a_logit_is_the_cross_entropy_of_its_pixels(network):
    """Against optax, and the squared error of the probability."""
    made = objective(draws_at_once=3)
    value, (losses, mses) = made.example_losses({"w": 1.3}, MASKS, FEATURES, KEYS)
    wanted, squares = [], []
    truth = MASKS[..., None].astype(jnp.float32)
    for x_t, t in network:
        z = 1.3 * x_t + t[:, None, None, None] / 100
        of_rows = optax.sigmoid_binary_cross_entropy(z, jnp.tile(truth, (len(z) // 6, 1, 1, 1)))
        wanted.append(of_rows.mean((1, 2, 3)).reshape(-1, 6).mean(0))
        error = jax.nn.sigmoid(z) - jnp.tile(truth, (len(z) // 6, 1, 1, 1))
        squares.append(jnp.square(error).mean((1, 2, 3)).reshape(-1, 6).mean(0))
    np.testing.assert_allclose(losses, np.mean(wanted, axis=0), rtol=1e-5)
    np.testing.assert_allclose(mses, np.mean(squares, axis=0), rtol=1e-5)
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-6)


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_draws_of_a_batch_do_not_depend_on_how_many_are_denoised_at_once(network, at_once):
    together = objective(draws_at_once=3).example_losses({"w": 0.7}, MASKS, FEATURES, KEYS)
    some = objective(draws_at_once=at_once).example_losses({"w": 0.7}, MASKS, FEATURES, KEYS)
    np.testing.assert_allclose(some[0], together[0], rtol=1e-5)
    np.testing.assert_allclose(some[1][0], together[1][0], rtol=1e-5)


def test_without_a_recycled_draw_the_losses_are_those_of_draws_from_the_mask(network):
    plain = objective(draws_at_once=3).example_losses({"w": 0.7}, MASKS, FEATURES, KEYS)
    none = objective("T+recycled", recycled=0.0).example_losses({"w": 0.7}, MASKS, FEATURES, KEYS)
    np.testing.assert_allclose(none[1][0], plain[1][0], rtol=1e-5)


@pytest.mark.parametrize("until", [30, 99])
def test_a_recycled_draw_starts_from_the_first_estimate_up_to_its_largest_time(network, until):
    """By hand from the x_t that the network was shown, whose noise is that of the draw."""
    made = objective("T+recycled", draws=2, recycled=1.0, recycled_until=until)
    made.example_losses({"w": 0.7}, MASKS, FEATURES, KEYS)
    (x_T, T), (x_t, t) = network
    estimate = jnp.tanh((0.7 * x_T + 1.0) / 2)
    x0 = 2.0 * MASKS[..., None] - 1.0
    keys = jax.vmap(lambda key: jax.random.split(key, 2))(KEYS)[:, 1]
    eps = jax.vmap(lambda key: jax.random.normal(jax.random.split(key, 3)[1], (16, 16, 1)))(keys)
    source = jnp.where((t <= until)[:, None, None, None], estimate, x0)
    signal, noise = (f(t)[:, None, None, None] for f in (made.schedule.signal, made.schedule.noise))
    assert (T == 100).all() and len(set(np.asarray(t <= until).tolist())) <= 2
    np.testing.assert_allclose(x_t, signal * source + noise * eps, rtol=0, atol=1e-5)


def test_no_gradient_passes_through_a_recycled_estimate(network):
    made = objective("T+recycled", draws=2, recycled=1.0)
    frozen = []

    def value(w, through):
        network.clear()
        return made.example_losses({"w": w}, MASKS, FEATURES, KEYS)[0]

    slope = jax.grad(lambda w: value(w, None))(0.7)
    h = 1e-2
    # with the estimate of w = 0.7 kept in x_t, by differences of the cross-entropy of each pass
    value(0.7, None)
    shown = [(np.asarray(x), np.asarray(t)) for x, t in network]
    truth = np.asarray(MASKS, np.float32)[..., None]
    for w in (0.7 - h, 0.7 + h):
        z = [np.float32(w * x + t[:, None, None, None] / 100) for x, t in shown]
        frozen.append(np.mean([optax.sigmoid_binary_cross_entropy(one, truth) for one in z]))
    np.testing.assert_allclose(slope, (frozen[1] - frozen[0]) / (2 * h), rtol=1e-3)
