"""Objects that some samples hold: by construction, and by brute force over sets of pixels."""

import math

import numpy as np
import pytest
from object_scenes import numbers

from segdiff_jax.certainty import answers
from segdiff_jax.certainty.doubtful import RARE, find
from segdiff_jax.evaluation.labelling import label

SIDE = 40


def mask(*boxes):
    """Returns a mask of boxes (top, left, height, width)."""
    found = np.zeros((SIDE, SIDE), bool)
    for top, left, height, width in boxes:
        found[top : top + height, left : left + width] = True
    return found


SURE, FIRST, SECOND = (2, 2, 10, 10), (20, 20, 6, 8), (30, 4, 5, 5)


def test_what_half_of_the_samples_hold_is_listed_with_its_share_and_spread():
    wider = (20, 20, 6, 10)
    drawn = [
        mask(SURE, FIRST),
        mask(SURE, wider),
        mask(SURE, FIRST, SECOND),
        mask(SURE),
        mask(SURE),
    ]
    samples, p = [label(m) for m in drawn], np.mean(drawn, axis=0)
    found = find(label(mask(SURE)), samples, p)
    assert [one.held for one in found] == [0.6, 0.2]
    first, second = found
    assert (first.top, first.left, first.pixels.shape) == (20, 20, (6, 8))
    assert first.pixels.all() and first.probability == pytest.approx(0.6)
    assert first.area_std == pytest.approx(np.std([48, 60, 48], ddof=1))
    assert (second.top, second.left, second.pixels.shape) == (30, 4, (5, 5))
    assert math.isnan(second.area_std)


def test_a_speck_and_an_object_of_the_mask_are_not_listed():
    drawn = [mask(SURE, (30, 30, 1, 3)), mask((2, 2, 9, 9), (30, 30, 1, 3))]
    assert find(label(mask(SURE)), [label(m) for m in drawn], np.mean(drawn, axis=0)) == []
    assert find(label(mask()), [label(mask())] * 3, np.zeros((SIDE, SIDE))) == []
    assert find(label(mask()), [], np.zeros((SIDE, SIDE))) == []


def test_what_one_of_many_samples_holds_is_too_rare():
    few = [mask(FIRST)] + [mask()] * 9
    many = [mask(FIRST)] + [mask()] * 10
    for drawn, count in ((few, 1), (many, 0)):
        samples = [label(m) for m in drawn]
        assert len(find(label(mask()), samples, np.mean(drawn, axis=0))) == count
    assert RARE == 0.1


def test_an_object_that_samples_divide_gives_its_parts():
    whole, halves = mask((10, 10, 8, 16)), mask((10, 10, 8, 7), (10, 19, 8, 7))
    samples = [label(halves), label(halves), label(whole)]
    found = find(label(whole), samples, np.mean([halves, halves, whole], axis=0))
    assert [(one.left, one.held) for one in found] == [(10, 2 / 3), (19, 2 / 3)]


def brute(labels, samples):
    """Returns the doubtful objects as sets of pixels with their counts, by their definition."""

    def sets(of):
        return [frozenset(np.flatnonzero(of.ravel() == i)) for i in range(1, of.max() + 1)]

    def iou(a, b):
        return len(a & b) / len(a | b)

    own, drawn = sets(labels), [sets(sample) for sample in samples]
    candidates = [o for s in drawn for o in s if all(iou(o, m) < 0.5 for m in own)]
    rank = {}
    for one in candidates:
        best = [max((iou(one, o) for o in s), default=0) for s in drawn]
        rank[one] = (sum(b >= 0.5 for b in best), sum(b for b in best if b >= 0.5))
    found = []
    for one in sorted(rank, key=lambda o: rank[o], reverse=True):
        if rank[one][0] >= RARE * len(samples) and all(iou(one, o) < 0.5 for o, _ in found):
            found.append((one, rank[one][0]))
    return {(one, count) for one, count in found}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_list_is_that_of_the_definition(seed):
    drawn = []
    for k in range(8):
        boxes = []
        for i in range(6):
            y, x, h, w, there = numbers(1000 * seed + 10 * k + i + 1, 5, 10**6)
            row, column = divmod(i, 3)
            if there % 3:
                place = 20 * row + y % 4, 13 * column + x % 4
                boxes.append((*place, 5 + h % 6, 4 + w % 5))
        drawn.append(mask(*boxes))
    p = np.mean(drawn, axis=0)
    labels, samples = label(p > 0.5), [label(m) for m in drawn]
    got = set()
    for one in find(labels, samples, p):
        whole = np.zeros((SIDE, SIDE), bool)
        height, width = one.pixels.shape
        whole[one.top : one.top + height, one.left : one.left + width] = one.pixels
        assert one.probability == pytest.approx(p[whole].mean())
        got.add((frozenset(np.flatnonzero(whole.ravel())), round(one.held * len(samples))))
    wanted = brute(labels, samples)
    assert len(wanted) > 1 and sorted(c for _, c in got) == sorted(c for _, c in wanted)
    assert got == wanted


def test_objects_of_too_little_confidence_are_doubtful_and_no_longer_labelled():
    labels = label(mask(SURE, FIRST, SECOND))
    n, nan = np.arange(3), np.full(3, np.nan)
    confidence = np.array([0.3, 0.9, 0.4])
    listed = answers.Objects(
        labels, *(n + 10, n / 10, nan, nan, confidence), ("first",), ("a", "b", "c")
    )
    found = answers.sure(listed, 0.4)
    np.testing.assert_array_equal(found.labels, np.where(labels == 1, 0, np.maximum(labels - 1, 0)))
    np.testing.assert_array_equal(found.confidence, [0.9, 0.4])
    np.testing.assert_array_equal(found.area, [11, 12])
    assert found.classes == ("b", "c") and found.doubtful[1] == "first"
    one = found.doubtful[0]
    assert (one.top, one.left, one.confidence, one.probability) == (2, 2, 0.3, 0.0)
    np.testing.assert_array_equal(one.pixels, np.ones((10, 10), bool))
    surest = [other.confidence for other in answers.sure(listed, 0.95).doubtful[:3]]
    assert surest == [0.9, 0.4, 0.3]
    assert answers.sure(listed, 0.0) is listed
    unknown = listed._replace(confidence=nan)
    assert answers.sure(unknown, 0.9) is unknown
