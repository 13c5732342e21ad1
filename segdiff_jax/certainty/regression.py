"""Small linear models on standardised features: ridge and logistic regression, kept as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

FAR = 3.0  # standard deviations to which features are cut: no line is trusted far from its data
PENALTY = 3.0  # of the squared weights of standardised features, as of 3 further pictures
_ITERATIONS = 50


class Linear(NamedTuple):
    """A linear function of named features.

    Attributes:
      names: of the features, k.
      centre: [k], their means in the fit.
      spread: [k], their standard deviations there.
      weights: [k], of the standardised features.
      offset: the value at the means.
    """

    names: tuple[str, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    offset: float

    def __call__(self, features: Mapping[str, Any]) -> np.ndarray:
        """Returns the value of features, each a number or an array [N]; further ones are unused."""
        columns = np.stack([np.asarray(features[name], np.float64) for name in self.names], -1)
        z = np.clip((columns - np.array(self.centre)) / np.array(self.spread), -FAR, FAR)
        return z @ np.array(self.weights) + self.offset


def ridge(features: Mapping[str, np.ndarray], target: np.ndarray) -> Linear:
    """Fits a ridge regression; features by name [N], target [N]."""
    names, z, centre, spread = _standardised(features)
    offset = float(np.mean(target))
    normal = z.T @ z + PENALTY * np.eye(len(names))
    weights = np.linalg.solve(normal, z.T @ (target - offset))
    return _linear(names, centre, spread, weights, offset)


def logistic(features: Mapping[str, np.ndarray], positive: np.ndarray) -> Linear:
    """Fits a ridge-penalised logistic regression by Newton's method; its value is the log odds.

    Args:
      features: by name, [N].
      positive: [N] mask.
    """
    names, z, centre, spread = _standardised(features)
    design = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    penalty = np.diag([PENALTY] * len(names) + [1e-3])
    weights = np.zeros(len(names) + 1)
    for _ in range(_ITERATIONS):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (p - positive) + penalty @ weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design + penalty
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    return _linear(names, centre, spread, weights[:-1], float(weights[-1]))


def _standardised(
    features: Mapping[str, np.ndarray],
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Returns names, cut standardised features [N, k], means and standard deviations."""
    names = tuple(sorted(features))
    columns = np.stack([np.asarray(features[name], np.float64) for name in names], -1)
    centre, spread = columns.mean(axis=0), columns.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    return names, np.clip((columns - centre) / spread, -FAR, FAR), centre, spread


def _linear(
    names: Sequence[str], centre: np.ndarray, spread: np.ndarray, weights: np.ndarray, offset: float
) -> Linear:
    of_names, of_spread, of_weights = (
        tuple(map(float, part)) for part in (centre, spread, weights)
    )
    return Linear(tuple(names), of_names, of_spread, of_weights, offset)
