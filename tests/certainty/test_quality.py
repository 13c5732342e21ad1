"""The fit of the Dice: by hand where the evidence says nothing."""

import numpy as np
import pytest

from segdiff_jax.certainty import quality

DICE = np.linspace(0.55, 0.97, 19)
DOUBT = np.log(1.01 - DICE)


def test_the_error_of_a_picture_is_that_of_the_fit_of_the_others():
    """The evidence is the same for all, so a fit is the mean of its pictures."""
    fit = quality.fit([{"agreement": 0.8}] * len(DICE), list(DICE))
    n = len(DICE)
    errors = np.sort([abs((DOUBT.sum() - y) / (n - 1) - y) for y in DOUBT])
    # the ceil((n + 1) level)-th smallest of 19
    assert fit.width[0.5] == pytest.approx(errors[9])
    assert fit.width[0.8] == pytest.approx(errors[15])
    assert fit.width[0.95] == pytest.approx(errors[18])
    found = fit({"agreement": 0.8})
    assert found.dice == pytest.approx(1.01 - np.exp(DOUBT.mean()))
    assert found.low == pytest.approx(max(0, 1.01 - np.exp(DOUBT.mean() + errors[15])))
    assert found.high == pytest.approx(min(1, 1.01 - np.exp(DOUBT.mean() - errors[15])))


def test_all_masks_of_a_picture_are_left_out_together_and_its_worst_counts():
    number = np.repeat(np.arange(10), 2)
    dice = 0.5 + 0.02 * np.arange(20)
    doubt = np.log(1.01 - dice)
    fit = quality.fit([{"agreement": 0.8}] * 20, list(dice), list(number))
    errors = [np.abs(doubt[number != k].mean() - doubt[number == k]).max() for k in range(10)]
    assert fit.width[0.8] == pytest.approx(np.sort(errors)[8])
    likely = np.arange(20) % 2 == 0
    fit = quality.fit([{"agreement": 0.8}] * 20, list(dice), list(number), list(likely))
    errors = [abs(doubt[number != k].mean() - doubt[2 * k]) for k in range(10)]
    assert fit.width[0.8] == pytest.approx(np.sort(errors)[8])
