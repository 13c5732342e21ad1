"""Pictures of a known law for the tests of certainty: discs whose doubt is drawn with them."""

import numpy as np

from segdiff_jax.certainty.evidence import Evidence

SIDE = 40
GRID = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"))


def disc(centre, radius):
    """Returns a mask [SIDE, SIDE] of a disc."""
    return np.sqrt(np.square(GRID - np.reshape(centre, (2, 1, 1))).sum(axis=0)) <= radius


def picture(seed, samples=12):
    """Returns (evidence, truth): two discs; the doubt of a picture spreads radius and probability.

    The truth and each sample draw the radius of both discs, and with a share of 1/2 for doubtful
    pictures whether the second is there, from one law; the probability is its exact marginal.
    """
    rng = np.random.default_rng(seed)
    doubt = rng.uniform(0.2, 2.5)
    centres, kept = ((11, 11), (28, 28)), 1 - 0.2 * doubt

    def draw():
        radius = 7 + doubt * rng.standard_normal()
        mask = disc(centres[0], radius)
        return mask | (disc(centres[1], radius) if rng.random() < kept else False)

    law = np.array([draw() for _ in range(64)])
    p = law.mean(axis=0).astype(np.float32)
    truth, drawn = draw(), np.array([draw() for _ in range(samples)])
    passes = np.clip(p + 0.05 * doubt * rng.standard_normal((4, 1, 1)), 0, 1).astype(np.float32)
    image = np.clip(90 + 80 * p + 20 * rng.standard_normal((3, SIDE, SIDE)), 0, 255)
    return Evidence(image.transpose(1, 2, 0).astype(np.uint8), p, passes, drawn, drawn), truth
