"""Platt scaling of the probability, and the threshold of the best Dice."""

import numpy as np
import pytest

from segdiff_jax.certainty import pixels
from segdiff_jax.evaluation import pixel_scores

INDEX = np.arange(400)
P = np.round(((INDEX * 0.6180339887) % 1) ** 2, 3)
Y = ((INDEX * 0.7548776662) % 1) < 0.8 * P + 0.05


def counted(p, y):
    return pixel_scores.count(p.reshape(20, 20), y.reshape(20, 20)).sum(axis=0)


def test_the_fit_is_that_of_scikit_learn():
    # sklearn 1.9.1, LogisticRegression(C=1e9) of the log odds of P; ours are of P's level
    model = pixels.fit([counted(P, Y)])
    assert model.slope == pytest.approx(0.59209772, abs=5e-3)
    assert model.offset == pytest.approx(-0.24945094, abs=5e-3)
    assert pixels.fit([counted(P, Y)] * 3).slope == pytest.approx(model.slope, abs=1e-4)


def test_the_calibrated_probability_has_the_type_and_order_of_the_first():
    model = pixels.PixelModel(0.5, -0.2, 0.4, 1)
    p = np.linspace(0, 1, 50, dtype=np.float32).reshape(5, 10)
    found = model(p)
    assert found.dtype == np.float32 and found.shape == p.shape
    assert (np.diff(found.ravel()) >= 0).all() and 0 < found.min() and found.max() < 1


def test_pixels_without_any_doubt_do_not_break_the_fit():
    sure = np.where(INDEX % 2, 0.999, 0.001)
    model = pixels.fit([counted(sure, INDEX % 2 > 0)])
    assert np.isfinite(model(sure)).all() and model.slope <= 10
    assert pixels.fit([counted(sure, np.zeros(400, bool))]) is None
    assert pixels.fit([]) is None


def test_the_threshold_is_that_of_the_best_mean_dice():
    pictures = [(P, Y), (P[::-1].copy(), Y)]
    found = pixels.best_threshold(
        [counted(p, y) for p, y in pictures], pixel_scores.probability_of_levels()
    )

    def dice(threshold):
        return np.mean(
            [
                2 * np.sum((p > threshold) & y) / (np.sum(p > threshold) + y.sum())
                for p, y in pictures
            ]
        )

    best = max(dice(t / 100) for t in range(1, 100))
    assert dice(found) == pytest.approx(best, abs=5e-3)  # a level may lie on a threshold


def test_slope_and_offset_act_on_the_log_odds():
    model = pixels.PixelModel(slope=2.0, offset=1.0, threshold=0.5, n=9)
    log_odds = np.array([-1.5, 0.0, 0.5])
    found = model(1 / (1 + np.exp(-log_odds)))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(2 * log_odds + 1))), rtol=1e-12)
