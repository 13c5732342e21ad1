"""Holds values to a bound that a rule sets, apart from the rounding of what is compared."""

import numpy as np


def assert_within(found, exact, bound, slack):
    """Checks that values differ by at most a bound, and slack for rounding.

    Args:
      found: the values, for example whole numbers.
      exact: what they stand for, of the same shape.
      bound: what the rule allows, for example 0.5 where it rounds to whole numbers.
      slack: how far rounding may have moved `found` or `exact`.
    """
    apart = np.abs(np.asarray(found, np.float64) - np.asarray(exact, np.float64))
    np.testing.assert_allclose(np.maximum(apart - bound, 0), 0, rtol=0, atol=slack)
