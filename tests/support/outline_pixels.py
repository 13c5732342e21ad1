"""Fills polygons slowly, independently of the library under test."""

import numpy as np


def filled(rings, shape):
    """Returns the pixels [H, W] whose centre lies inside rings, by the even-odd rule.

    A ring is a list of (x, y), with or without its first point again at the end.
    """
    inside = np.zeros(shape, int)
    for ring in rings:
        points = np.asarray(ring, float)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            for row in range(shape[0]):
                if min(y0, y1) <= row + 0.5 < max(y0, y1):  # a ray to the left crosses this side
                    crossing = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                    inside[row] += np.arange(shape[1]) + 0.5 > crossing
    return inside % 2 == 1
