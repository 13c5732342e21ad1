"""Ridge and logistic regression against scikit-learn."""

import numpy as np
import pytest

from segdiff_jax.certainty import regression

INDEX = np.arange(60)
A, B = (INDEX * 0.618) % 1, ((INDEX * 0.755) % 1) * 3
FEATURES = {"b": B, "a": A}


def test_ridge_is_that_of_scikit_learn():
    # sklearn 1.9.1, Ridge(alpha=3) of the standardised features
    line = regression.ridge(FEATURES, np.sin(3 * A) + 0.2 * B)
    assert line.names == ("a", "b")
    np.testing.assert_allclose(line.weights, [0.05414153, 0.16118095], atol=1e-8)
    assert line.offset == pytest.approx(0.9547721772583136)


def test_logistic_regression_is_that_of_scikit_learn():
    # sklearn 1.9.1, LogisticRegression(C=1/3), whose offset has no penalty: ours is 1e-3
    line = regression.logistic(FEATURES, (INDEX * 0.4142) % 1 < A)
    np.testing.assert_allclose(line.weights, [1.06913816, 0.43101567], rtol=1e-3)
    assert line.offset == pytest.approx(0.08897129, rel=1e-2)


def test_the_value_of_features_is_the_line_and_is_cut_far_away():
    line = regression.Linear(("a", "b"), (1.0, 0.0), (2.0, 1.0), (3.0, -1.0), 0.5)
    assert line({"b": 0.25, "a": 2.0, "c": 9}) == pytest.approx(0.5 + 3 * 0.5 - 0.25)
    assert line({"a": 1e9, "b": 0.0}) == pytest.approx(0.5 + 3 * regression.FAR)
    np.testing.assert_allclose(line({"a": np.ones(2), "b": np.array([0.0, 1])}), [0.5, -0.5])


def test_a_constant_feature_has_no_weight():
    line = regression.ridge({"a": A, "same": np.full(60, 7.0)}, A)
    assert line.weights[1] == 0
