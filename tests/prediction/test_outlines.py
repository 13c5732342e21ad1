"""Outlines of objects: filled again they give the pixels, and their rings are simple."""

import math

import numpy as np
import pytest
from outline_pixels import filled

from segdiff_jax.evaluation.labelling import label
from segdiff_jax.prediction import outlines

RNG = np.random.default_rng(5)


def random_labels(share, shape=(11, 14)):
    return label(RNG.random(shape) < share)


def lattice_points(ring):
    """Returns every corner of a pixel that a ring passes, once for each time."""
    passed = []
    for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        length = abs(end - start).sum()
        passed += [tuple(start + (end - start) * i // length) for i in range(length)]
    return passed


@pytest.mark.parametrize("share", [0.3, 0.5, 0.6, 0.7, 0.9, 1.0])
def test_filled_rings_are_the_object_to_the_pixel(share):
    for _ in range(20):
        labels = random_labels(share)
        seen = 0
        for number, box, rings in outlines.outlines(labels):
            pixels = labels == number
            np.testing.assert_array_equal(filled(rings, labels.shape), pixels)
            assert sum(map(outlines.area, rings)) == pixels.sum()
            rows, columns = np.nonzero(pixels)
            assert box == (
                slice(rows.min(), rows.max() + 1),
                slice(columns.min(), columns.max() + 1),
            )
            seen += 1
        assert seen == labels.max()


@pytest.mark.parametrize("share", [0.4, 0.6, 0.75])
def test_no_ring_touches_itself_and_one_surrounds_the_others(share):
    for _ in range(30):
        for _, _, rings in outlines.outlines(random_labels(share)):
            for ring in rings:
                points = lattice_points(ring)
                assert len(points) == len({*points})
            first, *holes = map(outlines.area, rings)
            assert first > 0 and all(hole < 0 for hole in holes)


def test_a_hole_that_touches_the_outside_in_a_corner_stays_a_hole():
    mask = np.array([[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]], bool)
    mask[0, 3] = mask[1, 1] = False
    outer, hole = outlines.rings(mask)
    assert outlines.area(hole) == -1 and outlines.area(outer) == 11
    ring = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 1], [1, 1, 1, 1]], bool)
    assert [outlines.area(r) for r in outlines.rings(ring)][0] == 16 - 1  # (3, 1) is outside


def test_corners_are_where_the_direction_changes():
    (ring,) = outlines.rings(np.ones((2, 3), bool))
    assert {tuple(map(int, p)) for p in ring} == {(0, 0), (3, 0), (3, 2), (0, 2)}
    # clockwise as seen: from the upper left corner to the right
    start = [tuple(map(int, p)) for p in ring].index((0, 0))
    assert tuple(map(int, np.roll(ring, -start, axis=0)[1])) == (3, 0)


def test_the_perimeter_of_a_rectangle_has_cut_corners():
    length = outlines.perimeter(outlines.rings(np.ones((6, 10), bool)))
    assert math.isclose(length, 2 * (5 + 9) + 4 * math.sqrt(0.5), rel_tol=1e-12)


def test_the_perimeter_of_a_diagonal_is_its_length():
    steps = np.arange(40)
    band = abs(steps[:, None] - steps) <= 5
    edges = sum(len(lattice_points(ring)) for ring in outlines.rings(band))
    length = outlines.perimeter(outlines.rings(band))
    # two slanting sides of 34 steps each, and the squares at the ends
    assert edges == 4 * 40 and 2 * 34 * math.sqrt(2) < length < edges / math.sqrt(2) + 8


def test_a_disc_has_its_perimeter_up_to_the_bias_of_eight_directions():
    y, x = np.mgrid[:121, :121]
    length = outlines.perimeter(outlines.rings((y - 60) ** 2 + (x - 60) ** 2 <= 55**2))
    bias = 8 * (math.sqrt(2) - 1) / math.pi  # of a length measured in eight directions: 1.055
    assert math.isclose(length / (2 * math.pi * 55.5), bias, rel_tol=0.01)


def test_the_perimeter_in_another_unit_is_that_of_the_stretched_rings():
    mask = np.ones((6, 10), bool)
    length = outlines.perimeter(outlines.rings(mask), np.array([[0.5, 0.0], [0.0, -2.0]]))
    assert math.isclose(length, 2 * (9 * 0.5 + 5 * 2) + 4 * math.hypot(0.25, 1), rel_tol=1e-12)
