"""F at several scales: what it sees of x_t."""

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.models.conditioning import Sum

RANDOM = np.random.default_rng(0)


def test_one_scale_of_a_pixel_is_the_network_of_the_paper_bit_for_bit():
    x_t = jnp.asarray(RANDOM.normal(size=(2, 8, 8, 1)), jnp.float32)
    features = jnp.zeros((2, 8, 8, 4))
    plain, scaled = Sum(channels=4), Sum(channels=4, scales=(1,))
    made = [m.init_with_output(jax.random.key(0), x_t, features) for m in (plain, scaled)]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), *made))


def test_a_scale_is_the_sum_over_a_square_divided_by_its_side():
    """Against sums by hand; what lies beyond the border counts as zero."""
    x_t = RANDOM.normal(size=(1, 9, 11, 1)).astype(np.float32)
    found = Sum(channels=4, scales=(1, 3, 7)).at_scales(jnp.asarray(x_t))
    assert found.shape == (1, 9, 11, 3)
    padded = np.pad(x_t[0, ..., 0].astype(np.float64), 3)
    for i, side in enumerate((1, 3, 7)):
        r = side // 2
        for y, x in ((0, 0), (4, 5), (8, 10), (2, 9)):
            square = padded[y + 3 - r : y + 4 + r, x + 3 - r : x + 4 + r]
            # a sum of 49 terms of order 1 in float32
            np.testing.assert_allclose(found[0, y, x, i], square.sum() / side, atol=1e-5)


def test_noise_has_unit_variance_at_every_scale_and_a_whole_object_more_signal():
    noise = jnp.asarray(RANDOM.normal(size=(4, 128, 128, 1)), jnp.float32)
    see = Sum(channels=4, scales=(1, 3, 7, 15)).at_scales
    inside = np.asarray(see(noise))[:, 8:-8, 8:-8]
    np.testing.assert_allclose(inside.std((0, 1, 2)), 1, atol=0.1)
    ones = np.asarray(see(jnp.ones((1, 31, 31, 1))))[0, 15, 15]
    np.testing.assert_allclose(ones, [1, 3, 7, 15], rtol=1e-6)
