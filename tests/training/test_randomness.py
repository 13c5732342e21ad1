"""What is random in training: by step, by row, and dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_config import tiny
from training_steps import BATCH, perturbed_state

from segdiff_jax.data.example import Batch
from segdiff_jax.factory import training
from segdiff_jax.models.segdiff import SegDiff
from segdiff_jax.training import loss
from segdiff_jax.training.step import Learner, TrainState, row_keys

KEY = jax.random.key(3)


def test_every_row_of_every_step_has_a_key_of_its_own():
    data = [np.asarray(jax.random.key_data(row_keys(KEY, jnp.int32(s), 0, 5))) for s in range(4)]
    assert len(np.unique(np.concatenate(data), axis=0)) == 20


def test_a_row_has_its_key_on_whichever_device_it_is():
    whole = jax.random.key_data(row_keys(KEY, jnp.int32(7), 0, 6))
    second = jax.random.key_data(row_keys(KEY, jnp.int32(7), 4, 2))
    np.testing.assert_array_equal(whole[4:], second)


class Draws:
    """An objective whose loss is what each row draws, whatever the weights are."""

    def loss(self, params, batch, keys, strata=None, weights=None):
        drawn = jax.vmap(jax.random.uniform)(keys)
        return jnp.mean(drawn) + 0 * jnp.sum(params), (drawn, drawn)


def test_every_step_draws_anew_though_the_weights_do_not_change():
    learner = Learner(Draws(), optax.sgd(1.0), lambda step: jnp.float32(0.9), "rows")
    zeros = jnp.zeros(2)
    state = TrainState(jnp.int32(0), zeros, zeros, learner.optimizer.init(zeros))
    rows = Batch(np.zeros((1, 3, 4, 4, 3), np.uint8), np.zeros((1, 3, 4, 4), np.uint8))
    step = jax.vmap(learner.update, (None, 0, None), out_axes=None, axis_name="rows")
    seen = []
    for n in range(3):
        expected = jax.vmap(jax.random.uniform)(row_keys(KEY, jnp.int32(n), 0, 3)).mean()
        state, metrics = step(state, rows, KEY)
        assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-6)
        seen.append(float(metrics["loss"]))
    assert len(set(seen)) == 3 and not np.any(state.params)


class Uniform(loss.Objective):
    """An objective whose losses are a number drawn for each row."""

    def example_losses(self, params, masks, features, keys, strata=None, weights=None):
        drawn = jax.vmap(jax.random.uniform)(keys)
        return jnp.mean(drawn), (features[:, 0, 0, 0], drawn)


def test_augmentation_and_loss_draw_from_keys_of_their_own():
    """The augmentation paints what it draws, so each key's first number is seen."""
    objective = Uniform(
        model=SegDiff(encoder=None, conditioning=None, unet=None),
        augment=lambda key, image, mask: (jnp.full_like(image, jax.random.uniform(key)), mask),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        reduction="mean",
    )
    keys = jax.random.split(KEY, 3)
    rows = Batch(np.zeros((3, 4, 4, 3), np.uint8), np.zeros((3, 4, 4), np.uint8))
    _, (painted, drawn) = objective.loss({}, rows, keys)
    first = jax.vmap(jax.random.uniform)(keys)
    assert len(np.unique(np.concatenate([painted, drawn, first]))) == 9


@pytest.mark.parametrize("kind", ["diffusion", "twin"])
def test_training_drops_values_by_the_key_of_the_row(kind):
    config = tiny()
    config.model.kind, config.augment.horizontal_flip = kind, False
    config.sampling.generations = 1
    config.model.dropout = 0.5
    params = perturbed_state(config, 0.1).params
    row = Batch(*(np.repeat(part[:1, :16, :16], 2, axis=0) for part in (BATCH.image, BATCH.mask)))
    dropped = _losses(config, params, row)
    config.model.dropout = 0.0
    whole = _losses(config, params, row)
    assert np.all(dropped != whole)
    if kind == "twin":  # it draws nothing else
        assert whole[0] == whole[1] and dropped[0] != dropped[1]


def _losses(config, params, batch):
    compiled = jax.jit(
        training.objective(config).loss, compiler_options={"xla_backend_optimization_level": 0}
    )
    return np.asarray(compiled(params, batch, jax.random.split(KEY, len(batch.mask)))[1][0])
