"""Scores of classes against what can be counted by hand."""

import math

import numpy as np

from segdiff_jax.data.classes import pack
from segdiff_jax.evaluation import class_scores, object_scores
from segdiff_jax.evaluation.class_colours import COLOURS, coloured
from segdiff_jax.evaluation.labelling import label, label_each
from segdiff_jax.metrics import dice, iou

RANDOM = np.random.default_rng(3)


def picture(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (14, 15)), rng.integers(0, 3, (14, 15))


def counts_of(found, true):
    labels = [np.arange(1, one.size + 1).reshape(one.shape) * (one > 0) for one in (found, true)]
    kinds = [
        np.where(one.ravel() > 0, one.ravel(), 1) for one in (found, true)
    ]  # every pixel an object
    return class_scores.count(found, true, *zip(labels, kinds, strict=True), 2)


def test_a_class_is_scored_as_the_mask_of_it():
    found, true = picture(0)
    for k, of in enumerate(counts_of(found, true), 1):
        scores = class_scores.scores(of)
        assert math.isclose(scores["dice"], dice(found == k, true == k))
        assert math.isclose(scores["iou"], iou(found == k, true == k))
        both = np.count_nonzero((found == k) & (true == k))  # objects of one pixel each
        assert math.isclose(scores["ap50"], both / np.count_nonzero((found == k) | (true == k)))


def test_all_pictures_together_are_one_large_picture():
    pictures = [picture(seed) for seed in range(3)]
    large = [np.concatenate(side) for side in zip(*pictures, strict=True)]
    summed = class_scores.total([counts_of(*one) for one in pictures])
    for one, other in zip(summed, counts_of(*large), strict=True):
        assert class_scores.scores(one) == class_scores.scores(other)


def test_an_object_of_another_class_is_missed_and_added():
    labels = np.zeros((8, 20), np.int64)
    labels[1:7, 1:7], labels[1:7, 10:16] = 1, 2
    true, found = np.array([0, 1, 2])[labels], np.array([0, 1, 1])[labels]
    counts = class_scores.count(
        found, true, (labels, np.array([1, 1])), (labels, np.array([1, 2])), 2
    )
    ap = [class_scores.scores(one)["ap50"] for one in counts]
    assert ap == [0.5, 0.0]
    assert object_scores.scores(object_scores.count(labels, labels))["ap50"] == 1


def test_what_is_on_neither_side_has_no_score_and_does_not_count_in_means():
    empty, one = np.zeros((6, 6), int), np.zeros((6, 6), int)
    one[1:4, 1:4] = 1
    report = class_scores.report(["a", "b"], [counts_of(one, one), counts_of(empty, empty)])
    assert report["classes"]["a"]["images"]["dice"] == 1
    assert math.isnan(report["classes"]["b"]["together"]["iou"])
    assert report["mean"]["together"]["iou"] == report["mean"]["images"]["ap50"] == 1


def test_the_majority_of_an_object_is_its_class():
    labels = np.array([[1, 1, 1, 2], [0, 2, 2, 2]])
    kinds = np.array([[1, 2, 2, 1], [0, 1, 1, 2]])
    assert class_scores.majority(labels, kinds, 2).tolist() == [2, 1]


def test_a_class_that_overlaps_is_scored_by_its_own_mask_and_objects():
    rng = np.random.default_rng(1)
    found, true = rng.random((2, 3, 14, 15)) > 0.6
    labels = [label_each(side) for side in (found, true)]
    kinds = [class_scores.by_plane(side) for side in labels]
    maps = [pack([*side]) for side in (found, true)]
    counts = class_scores.count(*maps, *zip(labels, kinds, strict=True), 3, True)
    for k, of in enumerate(counts):
        scores = class_scores.scores(of)
        assert math.isclose(scores["dice"], dice(found[k], true[k]))
        assert math.isclose(scores["iou"], iou(found[k], true[k]))
        alone = object_scores.count(label(found[k]), label(true[k]))
        assert of.objects.true == alone.true and of.objects.found == alone.found
        np.testing.assert_array_equal(of.objects.hits, alone.hits)
        assert math.isclose(scores["pq"], object_scores.scores(alone)["pq"], abs_tol=1e-12)


def test_the_class_of_an_object_is_its_place_also_where_classes_have_none():
    labels = np.zeros((4, 2, 6), np.int64)
    labels[1, 0, :2], labels[1, 0, 3:5], labels[3, 1] = 1, 2, 3
    assert class_scores.by_plane(labels).tolist() == [2, 2, 4]
    assert class_scores.by_plane(labels * 0).tolist() == []


def test_overlapping_classes_are_shown_in_the_mean_of_their_colours():
    drawn = coloured(np.array([[0, 1, 2, 3]], np.uint8), True)[0].astype(int)
    assert drawn[:3].tolist() == [[0, 0, 0], [*COLOURS[0]], [*COLOURS[1]]]
    mean = (np.array(COLOURS[0]) + COLOURS[1]) / 2
    assert np.abs(drawn[3] - mean).max() <= 0.5
