"""Ensemble copula coupling: marginals of the map, dependence of the samples."""

import numpy as np
import pytest
from scipy import stats

from segdiff_jax.inference.coupling import couple

RANDOM = np.random.default_rng(0)


def test_every_pixel_has_its_probability_in_the_mean_over_u():
    soft, p = RANDOM.random((5, 3, 4)), RANDOM.random((3, 4))
    n = 2000
    mean = np.mean([couple(soft, p, (i + 0.5) / n).mean(axis=0) for i in range(n)], axis=0)
    np.testing.assert_allclose(mean, p, rtol=0, atol=1 / n)


@pytest.mark.parametrize("u", [0.0, 0.3, 0.999])
def test_a_pixel_is_foreground_in_its_share_of_the_masks_up_to_rounding(u):
    soft, p = RANDOM.random((16, 20, 20)), RANDOM.random((20, 20))
    assert (np.abs(couple(soft, p, u).sum(axis=0) - 16 * p) < 1 + 1e-9).all()


def test_only_the_order_of_the_samples_matters():
    soft, p = RANDOM.random((8, 6, 6)), RANDOM.random((6, 6))
    nearly_alike = 0.5 + 1e-3 * stats.norm.ppf(soft)
    np.testing.assert_array_equal(couple(soft, p, 0.2), couple(nearly_alike, p, 0.2))


def test_pixels_of_one_rank_order_go_together():
    """Samples that agree on an object everywhere give masks that take it whole or not at all."""
    level = RANDOM.permutation(8) / 8
    soft = np.broadcast_to(level[:, None, None], (8, 5, 5))
    for mask in couple(soft, np.full((5, 5), 0.4), 0.5):
        assert mask.min() == mask.max()


def test_pixels_that_are_independent_in_the_samples_stay_so():
    soft = RANDOM.random((4000, 1, 2))
    masks = couple(soft, np.array([[0.3, 0.6]]), 0.5)[:, 0].astype(float)
    correlation = np.corrcoef(masks.T)[0, 1]
    assert abs(correlation) < 5 / np.sqrt(4000)


def test_equal_values_are_in_the_same_order_at_every_pixel():
    masks = couple(np.zeros((6, 4, 4)), np.full((4, 4), 0.5), 0.1)
    assert all(mask.min() == mask.max() for mask in masks) and masks[:, 0, 0].sum() == 3


def test_certain_pixels_are_the_same_in_all_masks():
    soft = RANDOM.random((7, 2, 2))
    for u in (0.0, 0.9999):
        assert couple(soft, np.ones((2, 2)), u).all()
        assert not couple(soft, np.zeros((2, 2)), u).any()
