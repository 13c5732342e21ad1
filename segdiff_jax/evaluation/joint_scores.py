"""Scores samples of masks against a law that is known, by exact samples of it, for one picture.

For the made-up set `data.datasets.ambiguous`: whether samples take an object whole or not at all,
how often, and whether their area varies as the law's does. Pixels drawn one by one from the exact
marginals fail all of these but `taken`.
"""

import numpy as np

LABELS = {
    "whole": "whole objects",
    "taken": "objects taken",
    "area_std": "spread of area",
    "area_std_exact": "spread of area, exact",
    "coverage": "80 % interval holds",
    "coverage_exact": "80 % interval holds, exact",
}
WHOLE = 0.1  # an object is whole if less than this share of its core differs from the rest of it
INTERVAL = 0.1, 0.9  # quantiles of the areas of samples


def scores(samples: np.ndarray, cores: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Computes the scores of the samples of one picture, by LABELS.

    The exact sampler's own figures are means over its groups of S, so of as many samples; an
    interval of S = 16 samples holds about 71 % instead of 80.

    Args:
      samples: [S, H, W] masks, S at least 2.
      cores: [objects, H, W] masks: pixels that every mask has if it has the object, and only then.
      exact: [N, H, W] masks, exact samples of the law; N is a multiple of S, at least 2 S.
    """
    count = len(samples)
    if count < 2 or len(exact) % count or len(exact) < 2 * count:
        raise ValueError(f"{len(exact)} exact samples for {count}: need a multiple, at least twice")
    shares = np.array([samples[:, core].mean(axis=1) for core in np.asarray(cores, bool)])
    areas, exact_areas = (np.count_nonzero(masks, axis=(1, 2)) for masks in (samples, exact))
    groups = exact_areas.reshape(-1, count)
    others = [np.delete(groups, i, axis=0) for i in range(len(groups))]
    held = [_coverage(group, rest) for group, rest in zip(groups, others, strict=True)]
    return {
        "whole": float(np.mean((shares < WHOLE) | (shares > 1 - WHOLE))),
        "taken": float(np.mean(shares > 0.5)),
        "area_std": float(np.std(areas, ddof=1)),
        "area_std_exact": float(np.std(groups, axis=1, ddof=1).mean()),
        "coverage": _coverage(areas, exact_areas),
        "coverage_exact": float(np.mean(held)),
    }


def _coverage(areas: np.ndarray, truth: np.ndarray) -> float:
    """Returns the share of true areas within the 80 % interval of the sampled ones."""
    low, high = np.quantile(areas, INTERVAL)
    return float(np.mean((low <= truth) & (truth <= high)))
