"""Scores of prediction intervals, against torch-uncertainty."""

import numpy as np
import pytest

from segdiff_jax.evaluation import interval_scores

INDEX = np.arange(40)
LOW = np.round(((INDEX * 0.618) % 1) * 10, 2)
HIGH = LOW + 1 + np.round(((INDEX * 0.755) % 1) * 6, 2)
TRUTH = np.round(((INDEX * 0.414) % 1) * 14, 2)


def test_scores_are_those_of_torch_uncertainty():
    # torch_uncertainty 0.13.0 IntervalScore(0.8), IntervalCoverage, MeanIntervalWidth, in float32
    found = interval_scores.scores(LOW, HIGH, TRUTH, 0.8)
    assert found.score == pytest.approx(27.975000381469727, rel=4e-7)
    assert found.coverage == pytest.approx(0.32499998807907104, rel=4e-7)
    assert found.width == pytest.approx(3.8349997997283936, rel=4e-7)


def test_the_ends_are_within():
    assert interval_scores.scores([1.0, 1.0], [2.0, 2.0], [1.0, 2.0], 0.5).coverage == 1
