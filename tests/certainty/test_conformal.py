"""Conformal quantiles: against crepes, and their promise over many draws."""

import numpy as np
import pytest

from segdiff_jax.certainty import conformal

RESIDUALS = np.round(np.sin(np.arange(38)) * 5, 3)
SIGMAS = 1 + (np.arange(38) * 0.3) % 1


@pytest.mark.parametrize(
    ("level", "low", "high"),
    [(0.5, 7.36842105, 12.63157895), (0.8, 6.22666667, 13.77333333), (0.95, 5.06, 14.94)],
)
def test_normalised_intervals_are_those_of_crepes(level, low, high):
    # crepes 0.9.1, ConformalRegressor.fit(RESIDUALS, SIGMAS).predict_int(10, 1, confidence=level)
    width = conformal.quantile(np.abs(RESIDUALS) / SIGMAS, level)
    assert (10 - width, 10 + width) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("level", conformal.LEVELS)
def test_too_few_pictures_are_said(level):
    n = conformal.fewest(level)
    assert n >= 1 / (1 - level) - 1 - 1e-9 > n - 1
    assert np.isfinite(conformal.quantile(np.arange(n), level))
    assert conformal.quantile(np.arange(n - 1), level) == np.inf
    assert conformal.quantiles(np.arange(n - 1))[level] is None


def test_a_new_error_is_within_the_quantile_as_often_as_promised():
    rng, n, draws = np.random.default_rng(0), 19, 20_000
    errors = rng.exponential(size=(draws, n + 1))
    held = [
        np.mean([e[-1] <= conformal.quantile(e[:-1], level) for e in errors])
        for level in (0.5, 0.8)
    ]
    # ceil(20 level) / 20 exactly for continuous errors; 4 standard errors
    np.testing.assert_allclose(held, [0.5, 0.8], atol=4 * 0.5 / np.sqrt(draws))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_the_quantile_of_the_others_is_that_of_a_fit_without_each(level):
    errors = np.random.default_rng(1).exponential(size=23)
    expected = [conformal.quantile(np.delete(errors, i), level) for i in range(23)]
    np.testing.assert_array_equal(conformal.left_out(errors, level), expected)
