"""Couples the calibrated probability of each pixel with the dependence between pixels of samples.

Samples of the reverse chain know what goes together, but leave much of the doubt about a pixel
within each soft mask. The probability map knows each pixel's marginal, and nothing of what goes
together. Ensemble copula coupling (Schefzik, Thorarinsdottir and Gneiting, Statistical Science
28(4), 2013) takes each from where it is known: by Sklar's theorem a joint distribution is its
marginals and a copula, and the ranks of the samples at a pixel are those of their copula. With rank
r in 0..S-1 a sample has the quantile (r + u) / S of that pixel, u uniform in [0, 1) and the same
for the whole picture, and is foreground where the quantile is above 1 - p. Every pixel is then
foreground with probability p exactly, in S p of the S masks up to rounding.
"""

import numpy as np


def couple(soft: np.ndarray, probability: np.ndarray, u: float) -> np.ndarray:
    """Returns masks with the marginals of a probability map and the ranks of soft samples.

    Args:
      soft: [S, H, W] samples; only their order at each pixel matters. Equal values are in the order
        of the samples, the same at every pixel, so that ties add no noise.
      probability: [H, W] in 0..1.
      u: in [0, 1); the mean over it is the exact probability.

    Returns:
      [S, H, W] uint8 in {0, 1}.
    """
    order = np.argsort(soft, axis=0, kind="stable")
    ranks = np.empty_like(order)
    counts = np.arange(len(soft)).reshape(-1, *[1] * (soft.ndim - 1))
    np.put_along_axis(ranks, order, np.broadcast_to(counts, order.shape), axis=0)
    quantile = (ranks + u) / len(soft)
    return (quantile >= 1 - probability).astype(np.uint8)
