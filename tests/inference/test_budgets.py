"""What makes the probability: one pass at the largest t, orientations; and drawn estimates."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_config import mesh_of

from segdiff_jax import diffusion
from segdiff_jax.diffusion import Prediction, linear_schedule
from segdiff_jax.inference.sampler import DiffusionSampler, MarginalSampler, row_key
from segdiff_jax.inference.segmentation import Segmenter, oriented, restored

SCHEDULE = linear_schedule(100)
RANDOM = np.random.default_rng(0)
KEY = jax.random.key(2)
SQUARE = RANDOM.integers(0, 256, (8, 8, 3), np.uint8)


class Slanted(nn.Module):
    """Returns logits that depend on the direction of the image, on x_t a little, and on t."""

    factor: int = 1
    precision: str = "default"

    def encode(self, image):
        right = jnp.roll(image[..., :1], 1, axis=2) - image[..., 1:2]
        return right + 0.5 * jnp.roll(image[..., 2:], 1, axis=1)

    def denoise(self, x_t, t, features, keys=None):
        return features + 0.3 * x_t + t[:, None, None, None] / 100


SHARED = {
    "model": Slanted(),
    "mean": (128.0,) * 3,
    "std": (60.0,) * 3,
    "schedule": SCHEDULE,
    "prediction": Prediction("logit"),
}


def segmenter(generations=1, orientations=1, devices=1, sampler=None):
    return Segmenter(
        sampler or MarginalSampler(**SHARED),
        {},
        mesh_of(devices),
        generations=generations,
        tile=0,
        stride=0,
        max_tiles_per_call=4,
        rows_per_device=1,
        multiple=1,
        orientations=orientations,
    )


@pytest.mark.parametrize("orientation", range(8))
@pytest.mark.parametrize("shape", [(5, 5), (4, 6)])
def test_an_orientation_is_undone(orientation, shape):
    pixels = RANDOM.integers(0, 256, (*shape, 3), np.uint8)
    seen = oriented(pixels, orientation)
    assert seen.shape == pixels.shape
    np.testing.assert_array_equal(restored(seen[..., 0], orientation), pixels[..., 0])


def test_a_square_has_eight_orientations():
    assert len({oriented(SQUARE, orientation).tobytes() for orientation in range(8)}) == 8


def test_the_map_is_the_logit_of_pure_noise_by_hand():
    (found,) = segmenter()([SQUARE], KEY)
    noise = diffusion.field(row_key(KEY, 0, 0), jnp.zeros(2, jnp.int32), (8, 8))(0)
    features = Slanted().encode((jnp.asarray(SQUARE, jnp.float32)[None] - 128) / 60)
    z = features[0] + 0.3 * noise + 1.0
    np.testing.assert_allclose(found[0], jax.nn.sigmoid(z)[..., 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 4])
def test_each_generation_is_the_map_of_the_image_in_its_orientation(devices):
    """Against maps of images that were turned before, each with the noise of its generation."""
    (found,) = segmenter(8, 8, devices)([SQUARE], KEY)
    for orientation in range(8):
        turned = oriented(SQUARE, orientation)
        (alone,) = segmenter(8)([turned], KEY)
        wanted = restored(alone[orientation], orientation)
        np.testing.assert_array_equal(found[orientation], wanted)
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_tiles_that_are_no_squares_are_mirrored_only():
    image = RANDOM.integers(0, 256, (8, 12, 3), np.uint8)
    (found,) = segmenter(8, 8)([image], KEY)
    assert found.shape == (8, 8, 12)
    (alone,) = segmenter(8)([oriented(image, 6)], KEY)
    np.testing.assert_array_equal(found[6], restored(alone[6], 6))


def test_drawn_estimates_end_in_a_mask_that_has_the_probabilities():
    """One step: x0 is drawn at t = T, so that a pixel is foreground with the map's probability."""
    steps = diffusion.ddim(SCHEDULE, diffusion.respaced(100, 1), 0.0)
    chain = DiffusionSampler(**SHARED, steps=steps, drawn=True)
    soft = replace(chain, drawn=False)
    (masks,), (maps,) = (segmenter(400, sampler=s)([SQUARE], KEY) for s in (chain, soft))
    assert set(np.unique(masks)) == {0, 1}
    p = maps.mean(axis=0)
    error = np.sqrt(p * (1 - p) / 400) + 1e-3
    assert (np.abs(masks.mean(axis=0) - p) < 5 * error).all()
