"""Objectives of masks of several channels: the mean over channels of what each has alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segdiff_jax import diffusion
from segdiff_jax.data import augment
from segdiff_jax.data.classes import pack
from segdiff_jax.training.loss import CrossEntropyObjective, DenoisingObjective

SCHEDULE = diffusion.linear_schedule(100)
RANDOM = np.random.default_rng(0)
EACH = RANDOM.integers(0, 2, (3, 2, 8, 8), np.uint8)  # [K, B, H, W]
FEATURES = RANDOM.normal(size=(2, 8, 8, 3)).astype(np.float32)


class Plain(nn.Module):
    """Returns as many channels as asked for, of the features and x_t alone."""

    outputs: int

    def denoise(self, x_t, t, features, keys=None):
        own = features[..., : self.outputs]
        return own if x_t is None else own + 0.5 * x_t


def objective_of(objective, count, **options):
    shared = {"augment": augment.identity, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return objective(model=Plain(count), channels=count, **shared, **options)


def packed(count):
    return np.stack([pack(EACH[:count, row]) for row in range(2)])


def cross_entropy(z, truth):
    return np.logaddexp(0, z) - truth * z


def test_a_one_pass_network_has_the_mean_cross_entropy_of_its_channels():
    objective = objective_of(CrossEntropyObjective, 3)
    masks = packed(3)
    loss, (losses, mses) = objective.example_losses(
        {}, masks, FEATURES, jax.random.split(jax.random.key(0), 2)
    )
    truth = np.moveaxis(EACH, 0, -1)
    by_hand = cross_entropy(FEATURES.astype(np.float64), truth).mean((1, 2, 3))
    np.testing.assert_allclose(losses, by_hand, rtol=8 * 2**-23)
    np.testing.assert_allclose(loss, by_hand.mean(), rtol=8 * 2**-23)
    share = 1 / (1 + np.exp(-FEATURES.astype(np.float64)))
    np.testing.assert_allclose(mses, np.square(share - truth).mean((1, 2, 3)), rtol=16 * 2**-23)


@pytest.mark.parametrize("kind", ["logit", "x0", "eps", "v"])
def test_the_denoising_loss_is_the_mean_of_that_of_each_channel(kind):
    prediction = diffusion.Prediction(kind)
    options = {"schedule": SCHEDULE, "prediction": prediction}
    x0 = 2.0 * np.moveaxis(EACH, 0, -1).astype(np.float32) - 1
    eps, t = RANDOM.normal(size=x0.shape).astype(np.float32), jnp.array([30, 80])
    together = objective_of(DenoisingObjective, 3, **options)
    losses = together.denoising_losses({}, x0, FEATURES, t, eps)
    alone = objective_of(DenoisingObjective, 1, **options)
    each = [
        alone.denoising_losses(
            {}, x0[..., k : k + 1], FEATURES[..., k : k + 1], t, eps[..., k : k + 1]
        )
        for k in range(3)
    ]
    np.testing.assert_allclose(losses, np.mean(each, axis=0), rtol=16 * 2**-23)


def test_the_draws_of_a_row_are_of_all_channels():
    options = {"schedule": SCHEDULE, "prediction": diffusion.Prediction("logit"), "draws": 2}
    objective = objective_of(DenoisingObjective, 3, kind="T+uniform", **options)
    keys = jax.random.split(jax.random.key(1), 2)
    loss, (losses, _) = objective.example_losses({}, packed(3), FEATURES, keys)
    flipped = packed(3) ^ 0b100  # the last channel alone is another
    other, _ = objective.example_losses({}, flipped, FEATURES, keys)
    assert losses.shape == (2,) and np.isfinite(loss) and other != loss
