"""Spoils annotations in the ways that annotators do, to learn and to measure what gives it away."""

import numpy as np

from segdiff_jax import metrics
from segdiff_jax.evaluation.labelling import SMALLEST

SHIFT = 3  # pixels
_TRIES = 50


def spoil(truth: np.ndarray, other: np.ndarray | None, seed: int) -> dict[str, np.ndarray]:
    """Returns spoilt copies of a mask by kind; a kind that is not possible is left out.

    Args:
      truth: mask [H, W].
      other: mask [H, W] of another picture; None: there is none.
      seed: of the choices.
    """
    rng, mask = np.random.default_rng(seed), np.asarray(truth, bool)
    labels = metrics.regions(mask)
    sizes = np.bincount(labels.ravel())
    objects = np.flatnonzero(sizes >= SMALLEST)
    objects = objects[objects > 0]
    found = {}
    if len(objects):
        one = labels == rng.choice(objects)
        found["object left out"] = mask & ~one
        if (more := _added(mask, one, rng)) is not None:
            found["object added"] = more
        found["shifted"] = shifted(mask, *_direction(rng))
    if other is not None and not np.array_equal(other, truth):
        found["another picture's"] = np.asarray(other, bool)
    return found


def shifted(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    """Returns a mask moved by pixels; what leaves is lost, what enters is background."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    into = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    of = slice(max(-down, 0), height - max(down, 0)), slice(max(-right, 0), width - max(right, 0))
    moved[into] = mask[of]
    return moved


def _direction(rng: np.random.Generator) -> tuple[int, int]:
    angle = rng.uniform(0, 2 * np.pi)
    return round(SHIFT * np.sin(angle)), round(SHIFT * np.cos(angle))


def _added(mask: np.ndarray, one: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Returns a mask with a copy of one of its objects where there is room; None: nowhere."""
    rows, columns = np.nonzero(one)
    rows, columns = rows - rows.min(), columns - columns.min()
    room = np.array(mask.shape) - (rows.max(), columns.max())
    for _ in range(_TRIES):
        top, left = rng.integers(room[0]), rng.integers(room[1])
        if not mask[rows + top, columns + left].any():
            more = mask.copy()
            more[rows + top, columns + left] = True
            return more
    return None
