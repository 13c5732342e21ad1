"""Traces the outlines of objects along the edges of their pixels.

Filling the polygons gives the pixels of the object again, all and no others. Of a 4-connected
object they are valid by the rules of OGC and GeoJSON: no ring touches itself, and holes touch other
rings in single points only. Where two pixels of the object meet at a corner alone, the path goes
from one to the other: so a ring surrounds one 4-connected piece of the background, which cannot
touch itself at such a corner without separating the two pixels, and these are connected.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

# Directions of edges, the object on the right: east, south, west, north; y grows downwards.
STEPS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])


def outlines(labels: np.ndarray) -> Iterator[tuple[int, tuple[slice, slice], list[np.ndarray]]]:
    """Yields each label, its bounding box (rows, columns), and the rings of its object.

    Args:
      labels: [H, W] integers, 0 is background; every other label is 4-connected.

    Returns:
      Rings as of `rings`, in coordinates of the whole picture.
    """
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            offset = np.array([box[1].start, box[0].start])
            yield label, box, [ring + offset for ring in rings(labels[box] == label)]


def rings(mask: np.ndarray) -> list[np.ndarray]:
    """Returns the rings around a 4-connected mask [H, W], which is not empty.

    Returns:
      Arrays [N, 2] int64 of (x, y), the corners of pixels at which the direction changes; pixel
      [0, 0] lies between (0, 0) and (1, 1), the last corner is joined to the first. The first ring
      is the outer one, clockwise as seen; the others are holes, counter-clockwise.
    """
    starts, directions, following = _edges(np.asarray(mask, bool))
    left, found = np.ones(len(starts), bool), list[np.ndarray]()
    turns = directions[following] != directions  # at the end of the edge
    after, is_turn = following.tolist(), turns.tolist()
    for first in range(len(after)):
        if not left[first]:
            continue
        edge, ends, passed = first, list[int](), list[int]()
        while not passed or edge != first:
            passed.append(edge)
            edge, turned = after[edge], is_turn[edge]
            if turned:
                ends.append(edge)
        left[passed] = False
        found.append(starts[ends])
    return sorted(found, key=area, reverse=True)


def area(ring: np.ndarray) -> float:
    """Returns the area within a ring [N, 2]; negative if it is counter-clockwise as seen."""
    x, y = np.asarray(ring, np.float64).T
    doubled = x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0]
    return float(doubled) / 2


def perimeter(of: list[np.ndarray], linear: np.ndarray | None = None) -> float:
    """Returns the length of rings, holes included, through the middles of pixel edges.

    A straight side counts as it is, each corner of it is cut: sqrt(1/2) in place of 1. The edges
    themselves are longer than a slanting outline by up to sqrt(2).

    Args:
      of: rings [N, 2].
      linear: [2, 2], the images of (1, 0) and (0, 1) are its columns; None: pixels.
    """
    matrix, total = np.eye(2) if linear is None else linear, 0.0
    for ring in of:
        sides = np.roll(ring, -1, axis=0) - ring
        lengths = np.abs(sides).sum(axis=1)
        units = (sides / lengths[:, None]) @ matrix.T
        total += float((np.hypot(*units.T) * (lengths - 1)).sum())
        total += float(np.hypot(*(units + np.roll(units, -1, axis=0)).T).sum()) / 2
    return total


def _edges(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns start [E, 2] of (x, y), direction and following edge, [E] each, of pixel edges."""
    height, width = mask.shape
    missing = np.pad(~mask, 1, constant_values=True)
    # of the pixel that an edge belongs to: east is its upper edge, south its right one, ...
    beside = (-1, 0), (0, 1), (1, 0), (0, -1)
    corner = (0, 0), (1, 0), (1, 1), (0, 1)  # (x, y) from which it starts
    keys = []
    for direction in range(4):
        top, left = (1 + n for n in beside[direction])
        y, x = np.nonzero(mask & missing[top : top + height, left : left + width])
        place = (y + corner[direction][1]) * (width + 1) + x + corner[direction][0]
        keys.append(place * 4 + direction)
    key = np.sort(np.concatenate(keys))
    place, direction = np.divmod(key, 4)
    start = np.stack([place % (width + 1), place // (width + 1)], axis=1)
    end = start + STEPS[direction]
    there = (end[:, 1] * (width + 1) + end[:, 0]) * 4
    following = np.full(len(key), -1)
    for turn in (1, 0, -1):  # right, straight on, left: the last that there is counts
        wanted = there + (direction + turn) % 4
        index = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        exists = key[index] == wanted
        following[exists] = index[exists]
    return start, direction, following
