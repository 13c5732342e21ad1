"""The thresholds of inner and outer masks, by brute force over all thresholds."""

import numpy as np
import pytest

from segdiff_jax.certainty import risk
from segdiff_jax.evaluation.pixel_scores import count

PICTURES, SIDE = 30, 24


@pytest.fixture(scope="module")
def pictures():
    """Probabilities and truths that follow them."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(PICTURES):
        p = rng.beta(0.4, 0.4, (SIDE, SIDE)).astype(np.float32)
        found.append((p, rng.random((SIDE, SIDE)) < p))
    return found


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_the_outer_mask_is_the_smallest_and_the_inner_the_largest_that_keep_the_risk(
    pictures, alpha
):
    model = risk.fit([count(p, truth).sum(axis=0) for p, truth in pictures])
    missed, false = [], []
    for threshold in risk.thresholds():
        kept = [(p > threshold, truth) for p, truth in pictures]
        missed.append([1 - (m & t).sum() / t.sum() for m, t in kept])
        false.append([(m & ~t).sum() / max(m.sum(), 1) for m, t in kept])
    # of a picture the loss at a threshold is the largest of those at higher ones: it must not rise
    worst = [np.max(false[i:], axis=0) for i in range(len(false))]
    missed, false = np.mean(missed, axis=1), np.mean(worst, axis=1)
    n, thresholds = PICTURES, risk.thresholds()
    safe = [(n * loss + 1) / (n + 1) <= alpha for loss in (missed, false)]
    for found, wanted in (
        (model.outer(alpha), np.flatnonzero(safe[0])[-1]),
        (model.inner(alpha), np.flatnonzero(safe[1])[0]),
    ):
        # probabilities are counted by level: one at the edge of a step may count with the next
        assert abs(np.flatnonzero(thresholds == found)[0] - wanted) <= 1
        assert 0 < found < 1
