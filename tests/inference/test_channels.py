"""Predictions of masks of several channels: rows, tiles, samples, and what becomes of each."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from pixel_network import PixelByPixel, segmenters

from segdiff_jax.data.channels import Channels
from segdiff_jax.inference.predictor import Predictor, Run

KEY = jax.random.key(4)
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
OBJECTS = Channels(interior=True)
ROWS = ("generations", "probability", "samples", "soft")


class ByChannel(PixelByPixel):
    """The same network for each channel k, of colour k."""

    def denoise(self, x_t, t, features):
        late = (t / 100)[:, None, None, None]
        colours = features[..., : x_t.shape[-1]]
        return colours + self.shift + 2 * (1 - 0.5 * late) * x_t


@pytest.fixture(scope="module")
def samplers():
    """Returns those of the map and the samples, which programs are compiled for once."""
    return [replace(one.sampler, model=ByChannel(), channels=OBJECTS) for one in segmenters()]


def predictor_of(samplers, coupled=True, fusion="mean", **options):
    one, chain = segmenters(**options)
    runs = (Run(replace(one, sampler=samplers[0]), replace(chain, sampler=samplers[1]), fusion),)
    return Predictor(runs, 4, coupled)


@pytest.fixture(scope="module")
def both(samplers):
    return predictor_of(samplers, generations=3).predict(IMAGE, KEY, 0)


def test_the_foreground_is_that_of_a_network_of_one_channel_to_the_last_bit(both):
    one = Predictor((Run(*segmenters(generations=3)),), 4).predict(IMAGE, KEY, 0)
    for name in ROWS:
        np.testing.assert_array_equal(getattr(both, name), getattr(one, name))
    assert one.further is None and one.interior is None


def test_the_second_channel_has_its_own_colour_and_its_own_noise(both):
    further = both.further
    assert further.channels == OBJECTS
    assert further.generations.shape == (3, 1, 40, 52) and further.soft.shape == (4, 1, 40, 52)
    np.testing.assert_array_equal(both.interior, further.probability[-1])
    np.testing.assert_array_equal(further.probability, further.generations.mean(axis=0))
    close = {
        axis: np.corrcoef(both.interior.ravel(), IMAGE[..., axis].ravel())[0, 1] for axis in (0, 1)
    }
    assert close[1] > 0.8 and abs(close[0]) < 0.1
    apart = further.generations[:, 0] - further.generations.mean(axis=0)
    noise = both.generations - both.generations.mean(axis=0)
    assert abs(np.corrcoef(apart.ravel(), noise.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("coupled", [True, False])
def test_all_channels_of_a_tiled_image_agree_at_the_seams(coupled, samplers):
    options = {"coupled": coupled, "generations": 2}
    whole = predictor_of(samplers, **options).predict(IMAGE, KEY, 0)
    (tiled,) = predictor_of(samplers, tile=16, stride=12, **options)([IMAGE], KEY)
    for name in ("probability", "generations", "soft"):
        a, b = getattr(whole.further, name), getattr(tiled.further, name)
        np.testing.assert_allclose(a, b, atol=4 * 2**-23)
    assert tiled.further.channels == OBJECTS


def test_a_value_of_any_channel_that_is_no_number_is_no_probability(samplers):
    class Broken(ByChannel):
        def denoise(self, x_t, t, features):
            return super().denoise(x_t, t, features).at[0, 2, 3, 1].set(np.nan)

    broken = [replace(one, model=Broken()) for one in samplers]
    found = predictor_of(broken).predict(IMAGE, KEY, 0)
    assert np.isnan(found.probability[2, 3]) and np.isfinite(found.probability[4:]).all()


def test_fusion_is_of_each_channel_alone(samplers):
    made = predictor_of(samplers, generations=3, fusion="median")
    found = made.predict(IMAGE, KEY, 0)
    np.testing.assert_array_equal(
        found.interior, np.median(found.further.generations[:, 0], axis=0)
    )
