"""Scores of objects: StarDist's own values, brute force, and scenes whose errors one can count."""

import itertools
import math

import numpy as np
import pytest
from object_scenes import scene

from segdiff_jax.evaluation.labelling import label
from segdiff_jax.evaluation.object_scores import (
    LABELS,
    THRESHOLDS,
    count,
    scores,
    total,
)

# stardist 0.9.2: matching(true, found, thresh) of `scene`: TP at THRESHOLDS, accuracy at 0.5 and
# 0.75, panoptic_quality, mean_matched_score and f1 at 0.5
STARDIST = {
    1: ([12, 7, 7, 7, 7, 6, 6, 4, 3, 3], 0.428571, 0.176471, 0.43989, 0.733149, 0.6),
    2: ([9, 6, 5, 3, 3, 1, 1, 1, 0, 0], 0.28125, 0.025, 0.279531, 0.63671, 0.439024),
    3: ([11, 9, 9, 8, 7, 7, 6, 3, 3, 3], 0.392857, 0.21875, 0.44036, 0.780638, 0.564103),
}
# matching_dataset of all three, by_image=False
DATASET = [32, 22, 21, 18, 17, 14, 13, 8, 6, 6], 0.363636, 0.132075, 0.385253, 0.72235
# cellseg-metrics 0.2.0: aggregated_jaccard_index. It pairs by the largest intersection, which in
# these two scenes, and not in the first, is the pair of the best IoU.
AJI = {2: 0.414946842, 3: 0.477586788}
DIGITS = 1e-6  # those that were recorded


def sets(labels):
    return [set(np.flatnonzero(labels.ravel() == i)) for i in np.unique(labels[labels > 0])]


def brute_aji(found, true):
    """The definition, over sets of pixels."""
    both = either = 0
    taken = set()
    for t in true:
        ious = [len(t & p) / len(t | p) for p in found]
        best = int(np.argmax(ious)) if ious and max(ious) > 0 else None
        either += len(t) if best is None else len(t | found[best])
        both += 0 if best is None else len(t & found[best])
        taken |= set() if best is None else {best}
    either += sum(len(p) for i, p in enumerate(found) if i not in taken)
    return both / either


@pytest.mark.parametrize("seed", STARDIST)
def test_the_scores_are_those_of_stardist(seed):
    of = count(*scene(seed))
    hits, *numbers = STARDIST[seed]
    assert of.hits.tolist() == hits
    got = [scores(of)[key] for key in ("ap50", "ap75", "pq", "sq", "rq")]
    assert got == pytest.approx(numbers, abs=DIGITS)
    accuracies = [tp / (of.true + of.found - tp) for tp in hits]
    assert scores(of)["ap"] == pytest.approx(np.mean(accuracies), abs=1e-12)


def test_the_scores_of_a_total_are_those_of_stardist_for_a_data_set():
    of = total([count(*scene(seed)) for seed in STARDIST])
    hits, *numbers = DATASET
    assert of.hits.tolist() == hits
    got = [scores(of)[key] for key in ("ap50", "ap75", "pq", "sq")]
    assert got == pytest.approx(numbers, abs=DIGITS)


@pytest.mark.parametrize("seed", range(1, 9))
def test_aji_is_that_of_its_definition(seed):
    found, true = scene(seed)
    got = scores(count(found, true))["aji"]
    assert got == pytest.approx(brute_aji(sets(found), sets(true)), abs=1e-12)
    assert seed not in AJI or got == pytest.approx(AJI[seed], abs=1e-8)


def test_hits_are_the_largest_matching_where_pairs_have_exactly_one_half():
    true, found = np.zeros((2, 1, 12), int)
    true[0, :4], true[0, 4:8], true[0, 8:12] = 1, 2, 3
    found[0, :2], found[0, 2:4], found[0, 4:8] = 1, 2, 3  # two halves of the first
    found[0, 8:10] = 4
    pairs = [(t, p) for t in (1, 2, 3) for p in (1, 2, 3, 4)]

    def iou(t, p):
        return ((true == t) & (found == p)).sum() / ((true == t) | (found == p)).sum()

    close = [pair for pair in pairs if iou(*pair) >= 0.5]
    best = max(
        len(chosen)
        for n in range(4)
        for chosen in itertools.combinations(close, n)
        if len({t for t, _ in chosen}) == len({p for _, p in chosen}) == n
    )
    of = count(found, true)
    assert (of.hits[0], of.iou) == (best, 2.0) == (3, 2.0)
    assert of.hits[1:].tolist() == [1] * 9


def test_errors_are_counted_by_halves():
    true, found = np.zeros((2, 40, 40), int)
    true[0:4, 0:4] = found[0:4, 0:4] = 1  # right
    true[10:14, 0:10] = 2  # split into two, of which neither is half of it
    found[10:14, 0:4], found[10:14, 5:9] = 2, 3
    true[20:24, 0:5], true[20:24, 5:10] = 3, 4  # merged
    found[20:24, 0:10] = 4
    true[30:34, 0:4] = 5  # missed
    found[30:34, 10:14] = 5  # added
    true[30:34, 20:24], found[32:36, 20:24] = 6, 6  # exactly half of each: missed, and added
    of = count(found, true)
    assert (of.true, of.found) == (6, 6)
    assert (of.split, of.merged, of.missed, of.added) == (1, 1, 2, 2)


def test_the_same_labels_in_another_order_have_the_best_scores():
    _, true = scene(4)
    other = np.where(true > 0, 10**6 - 7 * true, 0)
    one = scores(count(other, true))
    assert {one[key] for key in ("ap50", "ap75", "ap", "pq", "sq", "rq", "aji")} == {1.0}
    assert [one[key] for key in ("split", "merged", "missed", "added")] == [0, 0, 0, 0]


def test_scores_of_no_objects_are_undefined_and_of_one_side_zero():
    nothing, one = np.zeros((5, 6), int), np.zeros((5, 6), int)
    one[1:3, 1:3] = 9
    empty = scores(count(nothing, nothing))
    assert all(math.isnan(empty[key]) for key in ("ap50", "ap75", "ap", "pq", "sq", "rq", "aji"))
    for found, true, error in ((nothing, one, "missed"), (one, nothing, "added")):
        of = scores(count(found, true))
        assert [of[key] for key in ("ap50", "ap", "pq", "rq", "aji", error)] == [0, 0, 0, 0, 0, 1]
        assert math.isnan(of["sq"])
    assert set(empty) == set(LABELS) and len(THRESHOLDS) == 10


def test_a_mask_without_labels_is_compared_by_components_and_specks_do_not_count():
    mask, true = np.zeros((2, 20, 20), np.uint8)
    mask[2:8, 2:8], mask[10:12, 10], mask[5, 15:18] = 1, 1, 1
    true[2:8, 2:8], true[15, 1:4] = 1, 1
    assert count(label(mask), label(true))[:2] == (1, 1)
    halves = np.zeros((20, 20), np.int32)
    halves[2:8, 2:5], halves[2:8, 5:8] = 70_000, 5
    of = count(label(mask), halves)
    assert (of.true, of.found, of.merged) == (2, 1, 1)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and truth \(3, 2\)"):
        count(np.zeros((2, 3), int), np.zeros((3, 2), int))
