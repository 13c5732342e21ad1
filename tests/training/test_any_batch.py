"""A batch of any size on any number of devices, in any number of parts, makes the same update."""

from dataclasses import replace
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_config import mesh_of, tiny

from segdiff_jax.data.batch_layout import divide
from segdiff_jax.data.example import Batch
from segdiff_jax.factory import training
from segdiff_jax.runtime import distributed
from segdiff_jax.training import loss
from segdiff_jax.training.step import TrainState, init_state

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), np.uint8)
MASKS = (IMAGES[..., 0] > 127).astype(np.uint8)
# Of the loss and, as a norm, of the update: sums of float32 of the same terms in another order.
# Four times the largest difference that was seen, of the stand-in and of the network.
ROUNDING, ROUNDING_OF_NETWORK = 5e-6, 2e-6


def stratified():
    """Returns a config whose draws depend on the place of a row in the whole batch."""
    config = tiny()
    config.diffusion.prediction = "logit"
    config.train.draws, config.train.noise_draws_per_image = "T+uniform", 2
    return config


def network(model, method, params, *inputs):
    """Stands in for the network: compiles in a second, and depends on all of its inputs."""
    if method == "encode":
        (image,) = inputs
        return jnp.tanh(conv(image, params["G"]))
    x_t, t, features, _ = inputs
    h = jnp.tanh(conv(x_t, params["F"]) + features + t[:, None, None, None] / 100)
    return conv(h, params["D"])


def conv(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.fixture
def small(monkeypatch):
    """Returns a state of the stand-in, which replaces the network."""
    monkeypatch.setattr(loss, "call", network)
    rng, sides = np.random.default_rng(1), {"G": (3, 6), "F": (1, 6), "D": (6, 1)}
    params = {
        name: 0.3 * rng.standard_normal((3, 3, *io), np.float32) for name, io in sides.items()
    }
    return TrainState(np.int32(0), params, params, optax.sgd(1.0).init(params))


@pytest.fixture(scope="module")
def fresh():
    config = stratified()
    make = partial(init_state, training.objective(config), optax.sgd(1.0), (16, 16))
    state = jax.jit(make, compiler_options={"xla_backend_optimization_level": 0})(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 1000))
    params = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(next(keys), x.shape), state.params)
    return jax.tree.map(np.asarray, state.replace(params=params, ema_params=params))


def update(fresh, batch_size, devices, accumulate=1, config=None):
    """Returns (losses of the batch and its rows' finiteness, parameters before - after)."""
    config, rows = config or stratified(), divide(batch_size, devices, accumulate)
    learner = replace(
        training.learner(config),
        optimizer=optax.sgd(1.0),
        batch_size=batch_size,
        parts=rows.parts,
    )
    mesh = mesh_of(devices)
    step = distributed.map_step(learner.train_step, mesh)
    padded = [np.zeros((rows.slots, *x.shape[1:]), np.uint8) for x in (IMAGES, MASKS)]
    for whole, some in zip(padded, (IMAGES, MASKS), strict=True):
        whole[:batch_size] = some[:batch_size]
    given = distributed.split_rows(Batch(*padded), mesh)
    state, metrics = step(distributed.replicate(fresh, mesh), given, jax.random.key(5))
    moved = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), fresh.params, state.params)
    return jax.tree.map(np.asarray, metrics), np.concatenate(
        [leaf.ravel() for leaf in jax.tree.leaves(moved)]
    )


def difference(one, other):
    """Returns the largest relative difference of two updates."""
    scalars = [abs(one[0][name] / other[0][name] - 1) for name in ("loss", "mse", "grad_norm")]
    return max(*scalars, np.linalg.norm(one[1] - other[1]) / np.linalg.norm(other[1]))


def check(fresh, batch_size, divisions, config=None, rounding=ROUNDING):
    whole = update(fresh, batch_size, 1, config=config)
    assert whole[0]["finite_rows"].shape == (batch_size,)
    for devices, accumulate in divisions:
        found = update(fresh, batch_size, devices, accumulate, config)
        most = difference(found, whole)
        print(f"{batch_size} rows on {devices} devices in {accumulate} parts: {most:.1e}")
        assert most < rounding, (devices, accumulate)
        assert found[0]["finite_rows"].shape == (batch_size,)


def test_a_batch_divided_over_devices_or_into_parts_makes_the_update_of_one_device(small):
    check(small, 30, [(8, 1), (4, 4)])


def test_devices_without_a_row_change_nothing(small):
    check(small, 3, [(8, 1)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uniform", "T+uniform", "T+recycled"])
def test_every_division_of_every_kind_of_draws_makes_the_same_update(small, kind):
    config = stratified()
    config.train.draws = kind
    for batch_size in (30, 8, 5):
        check(small, batch_size, [*product((1, 2, 4, 8), (1, 2, 4))][1:], config)


def test_a_row_of_padding_is_not_one_of_the_loss(small):
    """What lies in padding does not matter."""
    config, mesh = stratified(), mesh_of(2)
    learner = replace(training.learner(config), optimizer=optax.sgd(1.0), batch_size=3)
    step = distributed.map_step(learner.train_step, mesh)
    seen = []
    for padding in (0, 255):
        images, masks = IMAGES[:4].copy(), MASKS[:4].copy()
        images[3:], masks[3:] = padding, padding > 0
        rows = distributed.split_rows(Batch(images, masks), mesh)
        seen.append(step(distributed.replicate(small, mesh), rows, jax.random.key(5)))
    for one, other in zip(*map(jax.tree.leaves, seen), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_first_updates_have_the_draw_at_pure_noise_alone_and_the_others_all(small):
    """By networks that have that objective at every update."""
    two = stratified()
    two.train.steps, two.train.share_at_T = 10, 0.4
    all_draws, at_T = stratified(), stratified()
    at_T.train.steps, at_T.train.share_at_T = 1_000_000, 1.0
    for step, same in ((0, at_T), (3, at_T), (4, all_draws), (9, all_draws)):
        state = small.replace(step=np.int32(step))
        mixed, alone = (update(state, 8, 2, config=config) for config in (two, same))
        other = update(state, 8, 2, config=all_draws if same is at_T else at_T)
        assert difference(mixed, alone) < ROUNDING < 1e-3 < difference(mixed, other)


@pytest.mark.slow
def test_the_network_itself_makes_the_update_of_one_device_however_it_is_divided(fresh):
    divisions = {30: [*product((2, 4, 8), (1, 4)), (1, 4)], 8: [(1, 4), (2, 4)], 3: [(8, 1)]}
    for batch_size, of_batch in divisions.items():
        check(fresh, batch_size, of_batch, rounding=ROUNDING_OF_NETWORK)
