"""Compares the certainty of runs: one rates the masks of another, seeds are an ensemble."""

import statistics
from collections.abc import Sequence

import numpy as np

from segdiff_jax.certainty import calibration, evidence, spoiling
from segdiff_jax.certainty.evidence import Evidence
from segdiff_jax.evaluation import ranking_scores
from segdiff_jax.evaluation.sample_scores import dice, pairwise_dice
from segdiff_jax.experiments.certainty_result import HALVES

Pictures = Sequence[tuple[Evidence, np.ndarray]]  # with their truths


def rate(ours: Pictures, others: Pictures) -> dict[str, float]:
    """Returns how well a run rates the masks of another: means over halves.

    Args:
      ours: of the run that rates.
      others: of the same pictures, whose masks are rated.
    """
    observed = [
        calibration.learn(str(i), found, truth, ours[(i + 1) % len(ours)][1])
        for i, (found, truth) in enumerate(ours)
    ]
    masks = [found.probability > 0.5 for found, _ in others]
    agreements = [
        evidence.agreement(found, mask) for (found, _), mask in zip(ours, masks, strict=True)
    ]
    true = np.array([dice(mask, truth) for mask, (_, truth) in zip(masks, ours, strict=True)])
    rng, found = np.random.default_rng(0), []
    for _ in range(HALVES):
        known, new = np.array_split(rng.permutation(len(ours)), 2)
        fitted = calibration.fit([observed[i] for i in known]).rated
        if fitted is None:
            return {}
        rows = np.array([tuple(fitted(agreements[i])) for i in new])
        held = (rows[:, 1] <= true[new]) & (true[new] <= rows[:, 2])
        error = np.abs(rows[:, 0] - true[new])
        found.append((ranking_scores.spearman(rows[:, 0], true[new]), error.mean(), held.mean()))
    spearman, error, held = np.mean(found, axis=0)
    return {"spearman": float(spearman), "error": float(error), "interval holds": float(held)}


def ensemble(seeds: Sequence[Pictures]) -> dict[str, float]:
    """Returns how well the pairwise Dice of the masks of runs ranks pictures by their mean's Dice.

    Args:
      seeds: of several runs, the same pictures.
    """
    agreement, true = [], []
    for together in zip(*seeds, strict=True):
        maps = np.stack([found.probability for found, _ in together])
        agreement.append(pairwise_dice(maps > 0.5))
        true.append(dice(maps.mean(axis=0) > 0.5, together[0][1]))
    risks = ranking_scores.risk_coverage(np.array(agreement), 1 - np.array(true))
    rank = ranking_scores.spearman(np.array(agreement), np.array(true))
    return {"spearman": rank, "closed": risks.closed, "dice": statistics.fmean(true)}


def spoilt_by_mask(pictures: Pictures) -> dict[str, float]:
    """Returns how well the Dice with a run's own mask finds spoilt annotations, by kind: AUROC."""
    scores: dict[str, list[float]] = {}
    right = []
    for i, (found, truth) in enumerate(pictures):
        own, other = found.probability > 0.5, pictures[(i + 1) % len(pictures)][1]
        right.append(dice(own, truth))
        same = other if other.shape == truth.shape else None
        for kind, mask in spoiling.spoil(truth, same, i).items():
            scores.setdefault(kind, []).append(dice(own, mask))
    found_by = {
        kind: ranking_scores.auroc(
            -np.array([*right, *values]), np.arange(len(right) + len(values)) >= len(right)
        )
        for kind, values in sorted(scores.items())
    }
    return found_by | {"mean": statistics.fmean(found_by.values())} if found_by else {}
