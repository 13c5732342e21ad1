"""Scores of the probability of pixels, against scikit-learn, torchmetrics, and brute force."""

import numpy as np
import pytest

from segdiff_jax.evaluation import pixel_scores

INDEX = np.arange(400)
P = np.round(((INDEX * 0.6180339887) % 1) ** 2, 3)
Y = ((INDEX * 0.7548776662) % 1) < 0.8 * P + 0.05
# of a probability by its level; see LEVELS
ROUNDING = 1e-3


def counted(p=P, y=Y):
    return pixel_scores.count(p.reshape(20, 20), y.reshape(20, 20)).sum(axis=0)


def test_scores_are_those_of_other_libraries():
    # sklearn 1.9.1 brier_score_loss, log_loss; torchmetrics 1.9.0 BinaryCalibrationError(15)
    found = pixel_scores.scores(counted())
    assert found.pixels == 400
    assert found.brier == pytest.approx(0.16077178500000003, abs=ROUNDING)
    assert found.nll == pytest.approx(0.5311642187412882, rel=2 * ROUNDING)
    # one pixel may cross the border of a bin
    assert found.ece == pytest.approx(0.0540, abs=ROUNDING + 1 / 400)
    assert found.detection.auroc == pytest.approx(0.715997317899492, abs=ROUNDING)
    assert found.detection.aupr == pytest.approx(0.42956454459868726, abs=2 * ROUNDING)


def test_adaptive_bins_hold_equally_many_pixels():
    order = np.argsort(P, kind="stable")
    parts = [np.array_split(x[order], 15) for x in (P, Y)]
    expected = sum(len(p) * abs(p.mean() - y.mean()) for p, y in zip(*parts, strict=True)) / 400
    # 400 pixels make no 15 equal bins, so one pixel may be in the neighbouring bin of ours
    assert pixel_scores.scores(counted()).ace == pytest.approx(expected, abs=0.01)
    constant = pixel_scores.scores(counted(np.full(400, 0.25)))
    assert constant.ace == pytest.approx(abs(0.25 - Y.mean()), abs=ROUNDING)


def test_of_the_predicted_class_it_is_the_adaptive_error_of_torch_uncertainty():
    # torch_uncertainty 0.13.0 AdaptiveCalibrationError("binary", 15): it takes the probability of
    # the predicted class, and this package that of the foreground, as torchmetrics does for its ECE
    found = pixel_scores.scores(counted(np.maximum(P, 1 - P), np.round(P) == Y)).ace
    assert found == pytest.approx(0.0444, abs=ROUNDING + 1 / 400)


def test_a_calibrated_probability_replaces_that_of_each_level():
    squared = pixel_scores.scores(counted(), pixel_scores.probability_of_levels() ** 2)
    assert squared.brier == pytest.approx(np.mean((P**2 - Y) ** 2), abs=2 * ROUNDING)
    assert squared.pixels == 400


def test_the_level_of_foreground_is_in_the_upper_half():
    p = np.array([0.0, 0.2, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.7, 1.0])
    above = pixel_scores.level(p) >= pixel_scores.LEVELS // 2
    np.testing.assert_array_equal(above, p > 0.5)
    middle = pixel_scores.probability_of_levels()[pixel_scores.level(p)]
    np.testing.assert_allclose(middle, p, atol=ROUNDING)


def test_the_band_is_what_lies_within_three_pixels_of_the_other_class():
    mask = np.zeros((30, 30), bool)
    mask[8:20, 5:25] = True
    expected = np.zeros_like(mask)
    points = np.argwhere(np.ones_like(mask))
    for place in points:
        others = points[mask.ravel() != mask[tuple(place)]]
        expected[tuple(place)] = np.square(others - place).sum(axis=1).min() <= 9
    np.testing.assert_array_equal(pixel_scores.band(mask), expected)
    assert not pixel_scores.band(np.ones((4, 4), bool)).any()
    counts = pixel_scores.count(np.full((30, 30), 0.3), mask)
    assert counts[1].sum() == expected.sum() and counts.sum() == 900
    assert counts[1, 1].sum() == (expected & mask).sum()


def test_of_no_pixels_nothing_is_known():
    nothing = pixel_scores.scores(np.zeros((2, pixel_scores.LEVELS), np.int64))
    assert nothing.pixels == 0 and np.isnan(nothing.ece)


def test_bins_add_up_to_all_pixels():
    sums = pixel_scores.bins(counted())
    assert sums.shape == (3, 15) and sums[2].sum() == 400 and sums[1].sum() == Y.sum()
    assert sums[0].sum() == pytest.approx(P.sum(), abs=400 * ROUNDING)
