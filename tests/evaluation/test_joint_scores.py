"""Scores against a known law: the exact sampler has the law's own, independent pixels do not."""

import numpy as np
import pytest

from segdiff_jax.data.datasets import ambiguous
from segdiff_jax.evaluation import joint_scores

PICTURES, S = 24, 16


def mean_scores(draw):
    """Means over pictures of the scores of samples that draw(exact samples, generator) returns."""
    rows = []
    for index in range(PICTURES):
        masks = ambiguous.annotations("test", index, 10 * S) > 0
        samples = draw(masks[: 2 * S], np.random.default_rng(index))
        cores = ambiguous.faint_cores("test", index)
        rows.append(joint_scores.scores(samples, cores, masks[2 * S :]))
    assert set(rows[0]) == set(joint_scores.LABELS)
    return {key: np.mean([row[key] for row in rows]) for key in joint_scores.LABELS}


def test_the_exact_sampler_has_the_scores_of_the_law():
    found = mean_scores(lambda masks, _: masks[:S])
    assert found["whole"] == 1
    assert abs(found["taken"] - 0.5) < 5 * 0.5 / (3 * S * PICTURES) ** 0.5
    # the spread of a picture has an error of about 1 / sqrt(2 S), the coverage one of about .1
    assert abs(found["area_std"] / found["area_std_exact"] - 1) < 5 / (2 * S * PICTURES) ** 0.5
    assert abs(found["coverage"] - found["coverage_exact"]) < 5 * 0.1 / PICTURES**0.5


def test_pixels_drawn_one_by_one_from_the_marginals_are_not_whole():
    found = mean_scores(lambda masks, rng: rng.random((S, 64, 64)) < masks.mean(0))
    assert found["whole"] < 0.005  # a core has 20 pixels or more, each a coin
    assert found["area_std"] < 0.1 * found["area_std_exact"] and found["coverage"] < 0.2


def test_samples_that_always_take_all_are_whole_and_too_alike():
    found = mean_scores(lambda masks, _: np.repeat(masks.any(0)[None], S, axis=0))
    assert found["whole"] == found["taken"] == 1
    assert found["area_std"] == 0 and found["coverage"] < 0.1


def test_the_scores_of_a_small_case_are_those_of_the_definitions():
    # an object of 20 pixels; samples have 1, 2, 18 and 19 of them, and 0, 0, 0, 3 others
    cores = np.zeros((1, 5, 8), bool)
    cores[0, :, :4] = True
    samples = np.zeros((4, 5, 8), bool)
    for sample, (inside, outside) in zip(samples, ((1, 0), (2, 0), (18, 0), (19, 3)), strict=True):
        sample[:, :4] = np.arange(20).reshape(5, 4) < inside
        sample[:, 4:] = np.arange(20).reshape(5, 4) < outside
    exact = np.zeros((8, 40), bool)
    for mask, area in zip(exact, (1, 2, 20, 21, 0, 10, 22, 40), strict=True):
        mask[:area] = True
    found = joint_scores.scores(samples, cores, exact.reshape(8, 5, 8))
    areas = (1, 2, 18, 22)  # interval by linear interpolation: 1.3 .. 20.8
    assert found["whole"] == 0.5 and found["taken"] == 0.5  # 2 and 18 of 20 are no less than 10 %
    assert np.isclose(found["area_std"], np.std(areas, ddof=1))
    assert found["coverage"] == 3 / 8  # 2, 20 and 10
    spreads = np.std((1, 2, 20, 21), ddof=1), np.std((0, 10, 22, 40), ddof=1)
    assert np.isclose(found["area_std_exact"], np.mean(spreads))
    # of (1, 2, 20, 21): 1.3 .. 20.7 holds 10; of (0, 10, 22, 40): 3 .. 34.6 holds 20 and 21
    assert found["coverage_exact"] == np.mean([1 / 4, 2 / 4])


@pytest.mark.parametrize(("count", "exact"), [(4, 4), (4, 10), (1, 8)])
def test_numbers_of_samples_that_do_not_fit_are_refused(count, exact):
    with pytest.raises(ValueError, match=f"{exact} exact samples for {count}"):
        joint_scores.scores(
            np.zeros((count, 2, 2), bool), np.ones((1, 2, 2)), np.zeros((exact, 2, 2), bool)
        )
