"""Scores: the authors' own numbers, hand-computed masks, and slow versions of the fast formulas."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from segdiff_jax import metrics
from segdiff_jax.errors import UserError
from segdiff_jax.inference.averaging import average
from segdiff_jax.metrics import boundary

GOLDEN = Path(__file__).parent / "golden"
PRED = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], bool)
TRUE = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
EMPTY = np.zeros((4, 4), bool)


def blobs(seed: int, share: float = 0.3, size: tuple[int, int] = (24, 31)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(size), 1.2)
    return noise > np.quantile(noise, 1 - share)


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "metrics.npz"))


@pytest.fixture(scope="module")
def vote():
    return dict(np.load(GOLDEN / "vote.npz"))


@pytest.mark.parametrize("i", range(16))
def test_scores_equal_the_authors_to_the_last_bit(golden, i):
    pred, true = golden[f"pred_{i:02}"], golden[f"gt_{i:02}"]
    ours = [f(pred, true) for f in (metrics.iou, metrics.dice, metrics.area_ratio)]
    ours.append(metrics.boundary_f(pred, true))
    np.testing.assert_array_equal(ours, golden["iou_f1_wcov_fbound"][i])


@pytest.mark.parametrize("i", range(16))
def test_boundaries_equal_the_authors_at_every_tolerance(golden, i):
    pred, true = golden[f"pred_{i:02}"], golden[f"gt_{i:02}"]
    np.testing.assert_array_equal(boundary(pred), golden[f"boundary_pred_{i:02}"])
    ours = [metrics.boundary_f(pred, true, (radius,)) for radius in range(1, 6)]
    np.testing.assert_array_equal(ours, golden["f_at_1_to_5px"][i])


@pytest.mark.parametrize("i", range(2))
def test_average_of_generations_is_the_authors_vote(vote, i):
    true = vote[f"plain{i}_gt01"]
    probability = average((vote[f"plain{i}_gens"][:, 0] + 1) / 2, true.shape)
    # the authors interpolate between places up to 64, which float32 rounds by up to 64 * 2^-24
    near = 2 * 64 * 2**-24  # for two axes, where the map steps by up to 1
    np.testing.assert_allclose(probability, vote[f"plain{i}_mean"], rtol=0, atol=near)
    np.testing.assert_array_equal(probability > 0.5, vote[f"plain{i}_mask"])


def test_mean_over_images_is_what_the_authors_log(vote):
    rows = []
    for i in range(2):
        true = vote[f"plain{i}_gt01"]
        probability = average((vote[f"plain{i}_gens"][:, 0] + 1) / 2, true.shape)
        rows.append(metrics.scores(probability, true))
    logged = {line.split()[1]: float(line.split()[2]) for line in vote["plain_log"][3:]}
    summary = metrics.summarise(rows)
    for key, name in (
        ("iou", "iou"), ("dice", "f1"), ("area_ratio", "WCov"), ("boundary_f", "boundF")
    ):  # fmt: skip
        assert summary[key].mean == pytest.approx(logged[name], abs=2**-22)  # a mean in float32


def test_hand_computed_masks():
    assert metrics.iou(PRED, TRUE) == 2 / 7
    assert metrics.dice(PRED, TRUE) == 4 / 9
    assert metrics.area_ratio(PRED, TRUE) == 4 / 5
    assert metrics.weighted_coverage(PRED, TRUE) == 2 / 6  # the lone pixel is another region
    # A boundary pixel looks right, down and across, so the contour lies up and left of the edge.
    np.testing.assert_array_equal(
        boundary(TRUE), [[1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    )


def test_boundary_f_of_hand_computed_lines():
    pred, true = np.zeros((2, 9, 9), bool)
    pred[:, :2] = True  # boundary: column 1
    true[:, :5] = True  # boundary: column 4, three pixels away
    assert metrics.boundary_f(pred, true) == pytest.approx(3 / 5)
    assert metrics.boundary_f(pred, true, (2.99,)) == 0
    assert metrics.boundary_f(pred, true, (3,)) == 1


def test_a_perfect_prediction_scores_one():
    true = blobs(0)
    expected = {key: 1.0 for key in metrics.KEYS} | {"calibration": 0.0}
    assert metrics.scores(true.astype(np.float32), true) == expected


def test_disjoint_squares_of_equal_area_fool_only_the_area_ratio():
    pred, true = np.zeros((2, 20, 20), bool)
    pred[1:4, 1:4] = True
    true[14:17, 14:17] = True
    scores = metrics.scores(pred.astype(np.float32), true)
    assert scores["area_ratio"] == 1
    assert [scores[k] for k in ("iou", "dice", "weighted_coverage", "boundary_f")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("pred", "true", "expected"),
    [
        (EMPTY, EMPTY, (0, 0, math.nan, math.nan, 1)),
        (PRED, EMPTY, (0, 0, 0, math.nan, 0)),
        (EMPTY, PRED, (0, 0, 0, 0, 0)),
        (EMPTY, ~EMPTY, (0, 0, 0, 0, 1)),
    ],
    ids=["both", "truth", "prediction", "prediction of a full truth"],
)
def test_empty_masks_score_what_the_docstring_says(pred, true, expected):
    values = list(metrics.scores(pred.astype(np.float32), true).values())
    np.testing.assert_array_equal(values[:5], expected)


def test_one_half_is_background():
    half = np.full((4, 4), 0.5, np.float32)
    assert metrics.scores(half, ~EMPTY)["iou"] == 0
    assert metrics.scores(np.nextafter(half, np.float32(1)), ~EMPTY)["iou"] == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.01, 1.01])
def test_probabilities_outside_0_to_1_are_refused(bad):
    probability = np.full((4, 4), 0.3, np.float32)
    probability[2, 1] = bad
    with pytest.raises(UserError, match="need 0..1"):
        metrics.scores(probability, TRUE)


def test_the_pooled_boundary_f_counts_pixels_of_all_images_together():
    """Two images by hand: a contour of 9 pixels met exactly, one of 3 pixels at distance 2."""
    first, near, true = np.zeros((3, 9, 9), bool)
    first[:, :4] = True
    near[:3, :2], true[:3, :4] = True, True  # the lower edges are met but for their ends
    single = metrics.boundary_counts(first, first)
    np.testing.assert_array_equal(single, [[9, 9, 9, 9]] * 5)
    other = metrics.boundary_counts(near, true)
    expected = []
    for (a, b, c, d), (e, f, g, h) in zip(single.tolist(), other.tolist(), strict=True):
        precision, recall = (a + e) / (b + f), (c + g) / (d + h)
        expected.append(2 * precision * recall / (precision + recall))
    pooled = metrics.pooled_boundary_f(single + other)
    assert pooled == pytest.approx(np.mean(expected), abs=1e-12)
    assert pooled != pytest.approx((1 + metrics.boundary_f(near, true)) / 2, abs=1e-3)


def test_one_image_has_the_same_boundary_f_pooled_and_mean():
    for seed in range(4):
        pred, true = blobs(seed), blobs(seed + 50, 0.1)
        counts = metrics.boundary_counts(pred, true)
        assert metrics.pooled_boundary_f(counts) == metrics.boundary_f(pred, true)


def test_the_pooled_boundary_f_is_undefined_without_contours():
    empty = np.zeros((4, 4), bool)
    assert np.isnan(metrics.pooled_boundary_f(metrics.boundary_counts(empty, TRUE)))


def test_masks_of_different_shapes_are_refused():
    for score in (metrics.iou, metrics.dice, metrics.area_ratio, metrics.weighted_coverage):
        with pytest.raises(ValueError, match="differ in shape"):
            score(np.ones((1, 4)), np.ones((4, 4)))


@pytest.mark.parametrize("seed", range(4))
def test_distance_transform_equals_dilation_by_disks(seed):
    pred, true = blobs(seed), blobs(seed + 50, 0.1)
    for radius in range(1, 6):
        y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        disk = x**2 + y**2 <= radius**2
        p, t = boundary(pred), boundary(true)
        precision = (p & ndimage.binary_dilation(t, disk)).sum() / p.sum()
        recall = (t & ndimage.binary_dilation(p, disk)).sum() / t.sum()
        slow = 2 * precision * recall / (precision + recall)
        assert metrics.boundary_f(pred, true, (radius,)) == pytest.approx(slow, abs=1e-12)


def regions(mask: np.ndarray) -> list[set]:
    """4-connected regions by growing them pixel by pixel."""
    left = {tuple(p) for p in np.argwhere(mask)}
    found = []
    while left:
        region, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            region.add((y, x))
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            edge.extend(near)
        found.append(region)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_weighted_coverage_equals_every_pair_compared(seed):
    rng = np.random.default_rng(seed)
    pred, true = rng.random((2, 13, 17)) < 0.45
    area = total = 0
    for t in regions(true):
        best = max(len(t & p) / len(t | p) for p in regions(pred))
        area, total = area + len(t), total + len(t) * best
    assert metrics.weighted_coverage(pred, true) == pytest.approx(total / area, abs=1e-12)


def test_weighted_coverage_of_single_regions_is_the_iou():
    pred, true = np.zeros((2, 12, 12), bool)
    pred[2:8, 1:7] = True
    true[3:9, 3:11] = True
    assert metrics.weighted_coverage(pred, true) == metrics.iou(pred, true) > 0


def test_regions_that_meet_at_a_corner_are_two():
    true = np.zeros((6, 6), bool)
    true[:3, :3] = true[3:, 3:] = True
    pred = true.copy()
    pred[:3, :3] = False
    assert metrics.weighted_coverage(pred, true) == 0.5


def test_weighted_coverage_knows_more_pairs_than_32_bits():
    true = np.zeros((512, 512), bool)
    true[::2, ::2] = True  # 65,536 regions of one pixel
    assert metrics.weighted_coverage(true, true) == 1


def test_calibration_equals_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    probability, true = rng.random((9, 11)), rng.random((9, 11)) < 0.4
    probability[0, :4] = 0, 1, 0.5, 0.1  # the ends, and borders that belong to the upper bin
    sums = np.zeros((3, 10))
    for y, x in itertools.product(range(9), range(11)):
        bin_ = min(int(probability[y, x] * 10), 9)
        sums[:, bin_] += probability[y, x], true[y, x], 1
    np.testing.assert_allclose(metrics.calibration(probability, true), sums, atol=1e-12)
    score = np.mean([(p / n - t / n) ** 2 for p, t, n in sums.T if n])
    assert metrics.calibration_score(sums) == pytest.approx(score)


def test_calibration_sums_add_up_over_images():
    rng = np.random.default_rng(1)
    probability, true = rng.random((2, 8, 8)), rng.random((2, 8, 8)) < 0.5
    parts = metrics.calibration(probability[0], true[0]) + metrics.calibration(
        probability[1], true[1]
    )
    np.testing.assert_allclose(parts, metrics.calibration(probability, true))


def test_calibration_leaves_out_bins_without_pixels():
    probability = np.array([[0.05, 0.05, 0.95, 0.95]])
    true = np.array([[0, 0, 1, 0]])
    score = metrics.calibration_score(metrics.calibration(probability, true))
    assert score == pytest.approx((0.05**2 + 0.45**2) / 2)
    assert math.isnan(metrics.calibration_score(np.zeros((3, 10))))


def test_summary_skips_and_counts_the_undefined():
    summary = metrics.summarise([{"iou": 0.2}, {"iou": math.nan}, {"iou": 0.6}], ["iou"])["iou"]
    assert summary.mean == pytest.approx(0.4)
    assert summary.standard_deviation == pytest.approx(math.sqrt(0.08))
    assert summary.standard_error == pytest.approx(math.sqrt(0.04))
    assert (summary.defined, summary.undefined) == (2, 1)


def test_summary_of_one_or_no_value_has_no_spread():
    one, none = (metrics.summarise([{"iou": x}], ["iou"])["iou"] for x in (0.3, math.nan))
    assert one.mean == 0.3 and math.isnan(one.standard_error)
    assert math.isnan(none.mean) and (none.defined, none.undefined) == (0, 1)


def test_average_clips_after_the_resize():
    generations = np.array([[[-1, 1.0]]])  # clipped first, the contour would lie elsewhere
    np.testing.assert_allclose(average(generations, (1, 4)), [[0, 0, 0.5, 1]])


def test_average_lets_no_generation_hide_a_nan():
    generations = np.zeros((3, 2, 2))
    generations[1, 0, 0] = math.nan
    assert np.isnan(average(generations, (2, 2))[0, 0])
