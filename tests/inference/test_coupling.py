"""Ensemble copula coupling: marginals of the map, dependence of the samples."""

import numpy as np
import pytest
from scipy import stats

from segdiff_jax.inference import coupling
from segdiff_jax.inference.coupling import couple


def rng(seed=0):
    return np.random.default_rng(seed)


def two_objects(p=0.6):
    """Returns a map of two squares of probability p."""
    probability = np.full((12, 24), 0.01)
    probability[3:9, 3:9] = probability[3:9, 15:21] = p
    return probability


def samples(a, b):
    """Returns soft samples that hold the objects of `two_objects` with these probabilities."""
    soft = np.full((len(a), 12, 24), 0.01)
    soft[:, 3:9, 3:9], soft[:, 3:9, 15:21] = a[:, None, None], b[:, None, None]
    return soft


def test_every_pixel_is_foreground_with_its_probability():
    """Over pictures whose samples are independent; p is known to five standard errors."""
    random, n, S = rng(1), 4000, 4
    probability = random.random((3, 3))
    total = np.zeros((3, 3))
    for i in range(n):
        soft = random.random((S, 3, 3))
        total += couple(soft, probability, rng(i)).sum(axis=0)
    error = np.sqrt(probability * (1 - probability) / (n * S))
    assert (np.abs(total / (n * S) - probability) < 5 * error).all()


def test_samples_of_a_pixel_are_independent_draws():
    """The variance of their sum over pictures is that of a binomial distribution."""
    random, n, S, p = rng(2), 4000, 6, 0.3
    sums = [couple(random.random((S, 1, 1)), np.array([[p]]), rng(i)).sum() for i in range(n)]
    counts = np.bincount(sums, minlength=S + 1)
    expected = n * stats.binom.pmf(np.arange(S + 1), S, p)
    assert (
        stats.chisquare(counts[:5], expected[:5] * counts[:5].sum() / expected[:5].sum())[1] > 1e-4
    )


def test_an_object_that_samples_take_whole_or_not_at_all_stays_whole():
    """Though their decisions differ from the map's share of them, and their values are noisy."""
    random, p = rng(3), 0.45
    for i in range(20):
        taken = random.random((2, 16)) < 0.6
        soft = samples(*np.where(taken, 0.98, 0.02))
        soft = np.clip(soft + 0.01 * random.normal(size=soft.shape), 0.001, 0.999)
        masks = couple(soft, two_objects(p), rng(i))
        for inside in (masks[:, 3:9, 3:9], masks[:, 3:9, 15:21]):
            share = inside.mean(axis=(1, 2))
            assert ((share == 0) | (share == 1)).all()


@pytest.mark.parametrize("same", [True, False])
def test_objects_go_together_as_they_do_in_the_samples(same):
    random, both = rng(4), []
    for i in range(300):
        a = random.normal(size=8)
        b = a if same else random.normal(size=8)
        soft = samples(1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b)))
        masks = couple(soft, two_objects(0.5), rng(i))
        both += list(zip(masks[:, 5, 5], masks[:, 5, 17], strict=True))
    correlation = np.corrcoef(np.array(both, float).T)[0, 1]
    # the numbers of two regions are drawn independently: the order is common, its levels are not
    assert correlation > 0.6 if same else abs(correlation) < 0.1


def test_decisions_that_differ_within_an_object_stay_apart():
    """Half of the samples take one half of an object, the others the other half."""
    soft = np.full((8, 12, 24), 0.01)
    left = np.arange(8) % 2 == 0
    soft[left, 3:9, 3:6], soft[~left, 3:9, 6:9] = 0.99, 0.99
    probability = np.full((12, 24), 0.01)
    probability[3:9, 3:9] = 0.5
    agree = 0
    for i in range(50):
        masks = couple(soft, probability, rng(i))
        agree += np.mean(masks[:, 5, 4] == masks[:, 5, 7]) / 50
    # with 4 of 8 decided each way, both are equal only where levels lie unevenly around 1/2
    assert agree < 0.35


def test_a_region_is_what_is_nearest_to_an_object():
    probability = np.zeros((9, 30))
    probability[3:6, 3:6] = 0.9
    probability[3:6, 12:15] = 0.1  # possible, and alone
    probability[3:6, 24:27] = 0.9
    probability[4, 20:24] = 0.2  # connected with an object: no other one
    found = coupling.regions(probability)
    assert sorted(np.unique(found)) == [0, 1, 2]
    assert found[0, 0] == found[4, 4] and found[4, 21] == found[4, 25] == found[8, 29]
    assert len({int(found[4, x]) for x in (4, 13, 25)}) == 3
    assert found[4, 8] == found[4, 4] and found[4, 10] == found[4, 13]


def test_a_map_without_objects_is_one_region():
    assert not coupling.regions(np.zeros((4, 5))).any()


def test_certain_pixels_are_the_same_in_all_masks():
    soft = rng().random((7, 2, 2))
    assert couple(soft, np.ones((2, 2)), rng()).all()
    assert not couple(soft, np.zeros((2, 2)), rng()).any()
