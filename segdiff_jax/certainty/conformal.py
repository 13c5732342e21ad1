"""Split conformal prediction: quantiles of errors that hold for a new picture, with their n.

If the pictures of the fit and a new one are exchangeable, the new error is at most the
ceil((n + 1) level)-th smallest of n errors with probability level or more, whatever the model is
(Vovk, Gammerman and Shafer, 2005). Where n < 1 / alpha - 1, alpha = 1 - level, that order
statistic does not exist, and nothing can be said.
"""

import math
from collections.abc import Sequence

import numpy as np

LEVELS = (0.5, 0.8, 0.95)  # of the intervals that users read
_TINY = 1e-9  # (n + 1) 0.8 of floats may lie above the whole number that it is


def quantile(errors: np.ndarray, level: float) -> float:
    """Returns the conformal quantile of errors [n]; inf if they are too few for the level."""
    rank = math.ceil((len(errors) + 1) * level - _TINY)
    return float(np.sort(errors)[rank - 1]) if rank <= len(errors) else math.inf


def fewest(level: float) -> int:
    """Returns the number of pictures from which on intervals of a level can be given."""
    return math.ceil(level / (1 - level) - _TINY)


def quantiles(errors: np.ndarray, levels: Sequence[float] = LEVELS) -> dict[float, float | None]:
    """Returns the conformal quantile by level; None: not calibrated."""
    found = {level: quantile(errors, level) for level in levels}
    return {level: value if math.isfinite(value) else None for level, value in found.items()}


def left_out(errors: np.ndarray, level: float) -> np.ndarray:
    """Returns for each of n errors the conformal quantile of the n - 1 others, [n]; inf likewise.

    With it, the choice between scales is judged as on pictures that were not used.
    """
    order = np.argsort(errors, kind="stable")
    ranked, n = np.asarray(errors, np.float64)[order], len(errors)
    rank = math.ceil(n * level - _TINY)
    found = np.full(n, math.inf)
    if 1 <= rank < n:
        place = np.empty(n, np.int64)
        place[order] = np.arange(n)
        found = np.where(place < rank, ranked[rank], ranked[rank - 1])
    return found
