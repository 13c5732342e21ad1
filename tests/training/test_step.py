"""The training step: what it learns, and that devices, maps and draws do not change it."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_config import mesh_of, tiny
from training_steps import (
    BATCH,
    largest_difference,
    mapped_step,
    perturbed_state,
    run_steps,
)

from segdiff_jax.data.example import Batch
from segdiff_jax.factory import training
from segdiff_jax.runtime import distributed
from segdiff_jax.training import loss
from segdiff_jax.training.loss import accumulate_mean
from segdiff_jax.training.step import init_state


@pytest.fixture(scope="module")
def fresh():
    return perturbed_state(tiny(), 0.05)


SMALL_STEPS = optax.sgd(0.01)


@pytest.fixture(scope="module")
def eight(fresh):
    return run_steps(fresh, 2, 8, optimizer=SMALL_STEPS)


@pytest.fixture(scope="module")
def moved_by_the_gradient(fresh):
    return run_steps(fresh, 1, 1, optimizer=optax.sgd(1.0))


def test_pmap_and_shard_map_take_the_same_steps_to_the_last_bit(fresh, eight):
    mapped, seen = run_steps(fresh, 2, 8, "pmap", SMALL_STEPS)
    assert seen == eight[1]
    assert largest_difference(mapped, eight[0]) == 0


def test_eight_devices_take_the_steps_of_one(fresh, eight):
    alone, seen = run_steps(fresh, 2, 1, optimizer=SMALL_STEPS)
    for one, other in zip(seen, eight[1], strict=True):
        for name in one:
            assert one[name] == pytest.approx(other[name], rel=2e-5)
    moved = largest_difference(alone.params, fresh.params)
    assert largest_difference(alone.params, eight[0].params) == pytest.approx(0, abs=1e-4 * moved)


@pytest.mark.slow
def test_thirty_updates_have_the_same_losses_on_any_number_of_devices(fresh):
    losses = np.array([[m["loss"] for m in run_steps(fresh, 30, n)[1]] for n in (1, 2, 4, 8)])
    most = np.max(np.abs(losses - losses[0]) / losses[0])
    print(f"loss over 1/2/4/8 devices: at most {most:.1e} relative")
    assert most == pytest.approx(0, abs=1e-5) and losses[0, -1] < 0.9 * losses[0, 0]


def test_devices_communicate_once_a_step(fresh):
    mesh, optimizer = mesh_of(8), SMALL_STEPS
    state = distributed.replicate(fresh.replace(opt_state=optimizer.init(fresh.params)), mesh)
    rows = distributed.split_rows(BATCH, mesh)
    step = mapped_step(mesh, optimizer=optimizer)
    program = step.lower(state, rows, jax.random.key(5)).compile().as_text()
    collective = (
        r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("
    )
    assert re.findall(collective, program) == ["all-reduce"]


def test_the_guard_changes_no_update_that_is_finite(fresh, eight):
    unguarded, seen = run_steps(fresh, 2, 8, optimizer=SMALL_STEPS, guarded=False)
    for part in ("params", "ema_params"):
        before, one, other = (getattr(s, part) for s in (fresh, unguarded, eight[0]))
        moved = largest_difference(one, before)
        assert moved > 0  # two programs round differently:
        assert largest_difference(one, other) == pytest.approx(0, abs=1e-4 * moved)
    for one, other in zip(seen, eight[1], strict=True):
        assert one == pytest.approx(other, rel=2e-5)


def test_the_same_step_twice_is_the_same_to_the_last_bit(fresh, eight):
    again, _ = run_steps(fresh, 2, 8, optimizer=SMALL_STEPS)
    assert largest_difference(again, eight[0]) == 0


@pytest.mark.slow
def test_the_loss_falls_when_one_batch_is_learned_by_heart(fresh):
    config = tiny()
    config.train.learning_rate = 5e-3
    _, seen = run_steps(fresh, 60, 1, config=config)
    assert np.mean([m["mse"] for m in seen[-5:]]) < 0.5 * np.mean([m["mse"] for m in seen[:5]])


def test_the_average_of_the_weights_follows_its_formula(fresh, moved_by_the_gradient):
    state, _ = moved_by_the_gradient
    for before, now, average in zip(
        *map(jax.tree.leaves, (fresh.params, state.params, state.ema_params)), strict=True
    ):
        np.testing.assert_allclose(average, 0.9 * before + 0.1 * now, rtol=1e-5, atol=1e-7)


def test_the_warm_up_of_the_average_starts_at_two_elevenths_and_ends_at_the_decay():
    config = tiny()
    config.train.ema_warmup, config.train.ema_decay = True, 0.99
    decay = training.ema_decay(config)
    assert float(decay(jnp.array(1))) == pytest.approx(2 / 11)
    assert float(decay(jnp.array(10_000))) == pytest.approx(0.99)


def test_the_gradient_norm_is_that_of_the_step_taken(fresh, moved_by_the_gradient):
    state, seen = moved_by_the_gradient
    moved = jax.tree.map(lambda a, b: a - b, fresh.params, state.params)
    assert float(optax.tree.norm(moved)) == pytest.approx(seen[0]["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_a_network_that_predicts_zero_has_the_loss_of_its_target(prediction):
    """eps and v of unit variance; x0 is -1 or +1: the squared target is 1 a pixel."""
    config = tiny()
    config.diffusion.prediction, config.augment.crop = prediction, 0
    objective = training.objective(config)
    make = partial(init_state, objective, optax.sgd(1.0), (24, 24))
    params = jax.jit(make, compiler_options={"xla_backend_optimization_level": 0})(
        jax.random.key(0)
    ).params
    keys = jax.random.split(jax.random.key(0), 8)
    loss, (_, mses) = jax.jit(objective.loss)(params, BATCH, keys)
    mse = mses.mean()
    assert float(mse) == pytest.approx(1.0, abs=0.1)
    assert float(loss) == pytest.approx(float(mse) * 24 * 24, rel=1e-6)  # a sum over pixels


@pytest.mark.parametrize(
    "at_once, rounds",
    [(1, 4), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((2, 2), (0, 4), (4, 1)))],
)
def test_several_draws_an_image_are_the_mean_of_single_draws(fresh, at_once, rounds, monkeypatch):
    """With the keys of the K draws handed to K single draws, loss and gradient agree."""
    config = tiny()
    config.train.noise_draws_per_image = K = 4
    config.train.draws_at_once, config.train.loss = at_once, "mean"
    shared = training.objective(config)
    keys = jax.random.split(jax.random.key(8), 2)
    rows = Batch(BATCH.image[:2], BATCH.mask[:2])
    together = jax.value_and_grad(lambda p: shared.loss(p, rows, keys), has_aux=True)
    turns = []
    monkeypatch.setattr(
        loss, "accumulate_mean", lambda *of: turns.append(of[2][0].shape) or accumulate_mean(*of)
    )

    def apart(params, image, mask, key):
        augment_key, draws_key = jax.random.split(key)
        moved, truth = shared.augment(augment_key, image.astype(jnp.float32), mask)
        x0 = 2.0 * truth[..., None] - 1
        pixels = (moved - jnp.array(shared.mean)) / jnp.array(shared.std)

        def single(draw_key):
            t_key, eps_key, dropout_key = jax.random.split(draw_key, 3)
            t = jax.random.randint(t_key, (), 1, 101)
            eps = jax.random.normal(eps_key, x0.shape)
            features = shared.model.apply({"params": params}, pixels[None], method="encode")
            row = x0[None], features, t[None], eps[None], dropout_key[None]
            return shared.denoising_losses(params, *row)[0]

        # each by itself, in a loop: eight copies of the network would take long to compile
        return jax.lax.map(single, jax.random.split(draws_key, K)).sum() / K

    def mean(params):
        errors = jax.lax.map(lambda of: apart(params, *of), (rows.image, rows.mask, keys))
        return errors.sum() / 2, errors

    one = jax.jit(together)(fresh.params)
    assert turns == ([(rounds, K // rounds, 2)] if rounds > 1 else [])
    other = jax.jit(jax.value_and_grad(mean, has_aux=True))(fresh.params)
    assert float(one[0][0]) == pytest.approx(float(other[0][0]), rel=1e-5)
    for reported in one[0][1]:
        np.testing.assert_allclose(reported, other[0][1], rtol=1e-5)
    scale = max(float(np.abs(g).max()) for g in jax.tree.leaves(other[1]))
    assert largest_difference(one[1], other[1]) == pytest.approx(0, abs=1e-4 * scale)


@pytest.mark.slow  # `faults/test_pmap.py` compares whole runs
def test_pmap_reads_rows_in_the_order_of_the_batch(fresh):
    """A permuted batch has another loss, because randomness belongs to the row."""
    _, seen = run_steps(fresh, 1, 4, "pmap", SMALL_STEPS)
    _, other = run_steps(fresh, 1, 2, "shard_map", SMALL_STEPS)
    assert seen[0]["loss"] == pytest.approx(other[0]["loss"], rel=2e-5)
