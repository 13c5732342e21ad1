"""Scores of samples as a joint distribution, against closed forms and brute force."""

import numpy as np
import pytest
from scipy import stats

from segdiff_jax.evaluation import sample_scores

RANDOM = np.random.default_rng(0)


def test_the_ledger_of_samples_of_independent_pixels_balances():
    p = RANDOM.random((40, 40))
    hard = sample_scores.independent_pixels(p, 400, 1)
    found = sample_scores.ledger(hard, p)
    assert found.within == 0
    # a variance of 400 zeros and ones is known to about 5 %, its mean over 1600 pixels to 0.1 %
    np.testing.assert_allclose(found.between, found.marginal, rtol=0.01)


def test_soft_masks_that_are_alike_have_all_their_doubt_within():
    p = RANDOM.random((8, 8))
    found = sample_scores.ledger(np.stack([p, p, p]), p)
    assert found.between < 1e-30
    np.testing.assert_allclose(found.within, found.marginal, rtol=1e-12)


def test_the_brier_score_of_infinitely_many_is_that_of_the_map_they_are_drawn_from():
    p, truth = RANDOM.random((50, 50)), RANDOM.random((50, 50)) < 0.3
    found = [
        sample_scores.unbiased_brier(sample_scores.independent_pixels(p, 8, seed), truth)
        for seed in range(60)
    ]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - np.mean((p - truth) ** 2)) < 5 * error


def test_the_fair_crps_is_in_the_mean_that_of_the_distribution():
    """Of the normal distribution there is a closed form (Gneiting and Raftery, JASA 2007)."""
    y = 0.7
    exact = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    found = [sample_scores.fair_crps(RANDOM.normal(size=4), y) for _ in range(20_000)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - exact) < 5 * error and error < 0.01


def test_the_crps_of_one_value_is_its_error():
    assert sample_scores.fair_crps(np.array([3.0]), 5.0) == 2.0


def test_objects_are_components_of_at_least_four_pixels():
    masks = np.zeros((2, 8, 8))
    masks[0, :2, :2] = 1  # an object
    masks[0, 4, 4:7] = 1  # three pixels
    masks[1, :2, :2] = masks[1, 2:4, 2:4] = 1  # two that meet at a corner
    np.testing.assert_array_equal(sample_scores.object_counts(masks), [1, 2])


def test_the_dice_of_pairs_is_the_mean_by_hand():
    masks = RANDOM.random((5, 6, 6)) < 0.4
    masks[3] = masks[4] = False
    pairs = []
    for i in range(5):
        for j in range(i):
            total = masks[i].sum() + masks[j].sum()
            pairs.append(2 * (masks[i] & masks[j]).sum() / total if total else 1.0)
    np.testing.assert_allclose(sample_scores.pairwise_dice(masks), np.mean(pairs), rtol=1e-12)


def test_the_confidence_of_a_mask_is_nearly_the_dice_that_independent_pixels_give_it():
    p = RANDOM.random((64, 64))
    mask = p > 0.5
    drawn = sample_scores.independent_pixels(p, 200, 0).astype(bool)
    dice = [2 * (one & mask).sum() / (one.sum() + mask.sum()) for one in drawn]
    # the ratio of expectations differs from the expected ratio by O(1 / pixels)
    np.testing.assert_allclose(
        sample_scores.soft_dice_confidence(p, mask), np.mean(dice), atol=3e-3
    )


@pytest.mark.parametrize("mask", [np.zeros((4, 4)), np.ones((4, 4))])
def test_the_confidence_of_a_certain_mask_is_1(mask):
    assert sample_scores.soft_dice_confidence(mask, mask) == 1


def test_the_ledger_of_two_samples_by_hand():
    """One pixel of 0.2 and 0.6: 0.16 and 0.24 within, 0.08 between (unbiased), 0.24 of p = 0.4."""
    samples = np.array([0.2, 0.6]).reshape(2, 1, 1)
    found = sample_scores.ledger(samples, np.array([[0.4]]))
    assert found == pytest.approx((0.2, 0.08, 0.24))
