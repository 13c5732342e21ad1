"""Scores against several annotators: recorded values of other implementations, brute force."""

from itertools import permutations

import numpy as np
import pytest

from segdiff_jax import metrics
from segdiff_jax.evaluation import annotator_scores as scores

EPS = np.finfo(np.float64).eps


def masks(seed, count, share):
    rng = np.random.Generator(np.random.PCG64(seed))  # its doubles are the same in every numpy
    return rng.random((count, 7, 9)) < share


# (samples, annotators, their shares of foreground) -> GED^2 and D_max by
# JakobLC/AmbDiffSeg@1e93309 (src/amb_diff_seg/utils.py: generalized_energy_distance,
# collective_insight), NCC by IML-DKFZ/values@83c9588 (evaluation/metrics/ncc.py: compute_ncc)
RECORDED = {
    (6, 4, 0.5, 0.4): (0.3146857982922806, 0.5141168087521227, -0.036762390542900675),
    (3, 5, 0.2, 0.7): (0.6045819357925386, 0.435673401422582, -0.019115986498766405),
    (16, 2, 0.6, 0.6): (0.3531263624364107, 0.6883116883116883, -0.06173137036868463),
    (4, 3, 0.01, 0.01): (0.375, 1.0, float("nan")),  # empty masks among both
}


@pytest.mark.parametrize("case", RECORDED)
def test_the_scores_are_those_of_other_implementations(case):
    number, (count, annotators, share, other) = list(RECORDED).index(case), case
    samples, truth = masks(10 + number, count, share), masks(20 + number, annotators, other)
    ged, d_max, ncc = RECORDED[case]
    assert abs(scores.ged_squared(samples, truth) - ged) < 20 * EPS  # means of up to 256 terms <= 1
    assert abs(scores.d_max(samples, truth) - d_max) < 20 * EPS
    # that code divides a sum over N pixels by N times deviations of N - 1
    found = scores.ncc(samples.mean(0), truth) * (62 / 63)
    np.testing.assert_allclose(found, ncc, rtol=0, atol=100 * EPS)  # sums of 63 terms


@pytest.mark.parametrize(("count", "annotators"), [(2, 2), (4, 4), (2, 4), (4, 2), (2, 3), (1, 3)])
def test_hm_iou_is_the_best_of_all_matchings(count, annotators):
    samples, truth = masks(count, count, 0.5), masks(50 + annotators, annotators, 0.5)
    size = int(np.lcm(count, annotators))
    pairs = [[_iou(s, t) for t in truth] for s in samples]
    best = max(
        np.mean([pairs[i % count][j % annotators] for i, j in enumerate(order)])
        for order in permutations(range(size))
    )
    assert abs(scores.hm_iou(samples, truth) - best) < 10 * EPS


def _iou(one, other):
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def test_empty_masks_agree_with_each_other_only():
    empty, full = np.zeros((1, 4, 5), bool), np.ones((1, 4, 5), bool)
    both = np.concatenate([empty, full])
    np.testing.assert_array_equal(scores.iou_matrix(both, both), np.eye(2))
    np.testing.assert_array_equal(scores.dice_matrix(both, both), np.eye(2))
    assert scores.ged_squared(empty, empty) == 0 and scores.ged_squared(empty, full) == 2
    assert scores.hm_iou(both, both) == scores.d_max(both, both) == 1
    assert scores.hm_iou(empty, both) == scores.d_max(empty, both) == 0.5


def test_samples_that_are_the_annotations_are_perfect():
    truth = masks(0, 3, 0.5)
    found = scores.scores(truth.mean(0), truth, truth[[2, 0, 1]])
    assert found["hm_iou"] == found["d_max"] == 1
    assert abs(found["ged_squared"]) < 10 * EPS and abs(found["ncc"] - 1) < 100 * EPS


def test_independent_samples_of_one_law_have_the_expected_bias():
    # E GED^2 = E d(s, s') (1 / S + 1 / A) where samples and annotations have the same law
    found, distances = [], []
    for seed in range(400):
        both = masks(seed, 7, 0.5)
        found.append(scores.ged_squared(both[:4], both[4:]))
        distances.append(1 - scores.iou_matrix(both[:1], both[1:2])[0, 0])
    expected = np.mean(distances) * (1 / 4 + 1 / 3)
    error = np.std(found) / 20 + (1 / 4 + 1 / 3) * np.std(distances) / 20
    assert abs(np.mean(found) - expected) < 5 * error


def test_dice_with_and_between_annotators_are_means_over_masks_and_pairs():
    truth = masks(3, 3, 0.5)
    probability = np.random.default_rng(0).random((7, 9))
    found = scores.scores(probability, truth)
    assert set(found) == {"annotator_dice", "mutual_dice", "ncc"}
    one = [metrics.dice(probability > 0.5, mask) for mask in truth]
    pairs = [metrics.dice(truth[i], truth[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert abs(found["annotator_dice"] - np.mean(one)) < 10 * EPS
    assert abs(found["mutual_dice"] - np.mean(pairs)) < 10 * EPS
    assert np.isnan(scores.scores(probability, truth[:1])["mutual_dice"])


def test_ncc_is_undefined_where_annotators_agree_everywhere():
    truth = np.repeat(masks(4, 1, 0.5), 3, axis=0)
    assert np.isnan(scores.ncc(np.random.default_rng(0).random((7, 9)), truth))
