"""Fusion of masks: STAPLE against SimpleITK, the others by brute force."""

from itertools import combinations

import numpy as np
import pytest

from segdiff_jax.inference import fusion
from segdiff_jax.inference.averaging import average
from segdiff_jax.inference.fusion import fuse, medoid, staple

RANDOM = np.random.default_rng(3)
# five raters of a disc of 8x8 pixels, a bit a pixel; and what SimpleITK 2.5.7's STAPLEImageFilter
# finds (foreground 1, confidence weight 1), which stops earlier
RATERS = (
    *("081c6c7c7c3d5800", "0008386c1c3c1000", "8018287430141800", "483cb8f47cfc9e83"),
    "0c30b8d0fc361801",
)
SENSITIVITY = 0.9513701989, 0.7056237871, 0.6689673101, 0.9999999619, 0.7983491229
SPECIFICITY = 0.8583443324, 0.9711539253, 0.9765705169, 0.6962752016, 0.8304882184
# by the row of a pixel
PROBABILITY = {
    1: (0, 0, 0.0481977, 0.9980262, 0.9995249, 0.2363361, 0, 0),
    3: (0.0481977, 0.9999755, 0.9995249, 0.9980262, 4e-7, 0.9995249, 0, 0),
    7: (0.0026039, 0, 0, 0, 0, 0, 0.0026039, 0.0481977),
}


def masks_of(raters=RATERS):
    rows = [np.frombuffer(bytes.fromhex(one), np.uint8) for one in raters]
    return np.stack([np.unpackbits(row).reshape(8, 8) for row in rows])


def test_staple_finds_what_simpleitk_finds():
    found = staple(masks_of())
    np.testing.assert_allclose(found.sensitivity, SENSITIVITY, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.specificity, SPECIFICITY, rtol=0, atol=1e-6)
    for row, truth in PROBABILITY.items():
        np.testing.assert_allclose(found.probability[row], truth, rtol=0, atol=4e-6)


def test_staple_is_a_fixed_point_of_its_two_equations():
    """The quality of a mask is its agreement with the map, and the map is Bayes' rule of both."""
    masks = masks_of()
    map_, p, q = staple(masks)
    flat, truth, prior = masks.reshape(5, -1), map_.ravel(), masks.mean()
    for j in range(5):
        assert p[j] == pytest.approx((flat[j] * truth).sum() / truth.sum(), abs=1e-7)
        assert q[j] == pytest.approx(((1 - flat[j]) * (1 - truth)).sum() / (1 - truth).sum())
    for i in range(64):
        yes, no = prior, 1 - prior
        for j in range(5):
            yes *= p[j] if flat[j, i] else 1 - p[j]
            no *= 1 - q[j] if flat[j, i] else q[j]
        assert truth[i] == pytest.approx(yes / (yes + no), abs=1e-7)


@pytest.mark.parametrize("value", [0, 1])
def test_staple_of_masks_that_all_agree_is_that_mask(value):
    np.testing.assert_array_equal(staple(np.full((3, 4, 4), value)).probability, value)
    split = np.zeros((3, 4, 4), np.uint8)
    split[:, :2] = 1
    np.testing.assert_allclose(staple(split).probability, split[0], atol=1e-6)


def test_staple_trusts_the_raters_that_agree_more_than_the_one_that_does_not():
    truth = RANDOM.random((40, 40)) < 0.4
    good = [truth ^ (RANDOM.random((40, 40)) < 0.05) for _ in range(3)]
    bad = [RANDOM.random((40, 40)) < 0.5 for _ in range(4)]
    masks = np.array([*good, *bad], np.uint8)
    found = staple(masks)
    assert found.sensitivity[:3].min() > 0.85 and found.sensitivity[3:].max() < 0.65
    wrong = np.mean((found.probability > 0.5) != truth)
    assert wrong < 0.02 < np.mean((fuse(masks.astype(float), "majority") > 0.5) != truth)


def test_the_medoid_has_the_highest_mean_iou_with_the_others():
    masks = RANDOM.random((6, 9, 9)) < RANDOM.random((6, 1, 1))
    total = np.zeros(6)
    for i, j in combinations(range(6), 2):
        iou = (masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum()
        total[[i, j]] += iou
    assert medoid(masks) == total.argmax()


def test_two_empty_masks_are_alike():
    masks = np.zeros((3, 2, 2), bool)
    masks[0] = True
    assert medoid(masks) == 1


def test_every_fusion_of_one_mask_is_that_mask():
    soft = RANDOM.random((1, 5, 7)).astype(np.float32)
    for method in fusion.FUSIONS:
        fused = fuse(soft, method)
        assert fused.dtype == np.float32 and fused.shape == (5, 7)
        np.testing.assert_array_equal(fused > 0.5, soft[0] > 0.5)
    for method in ("mean", "median", "medoid"):
        np.testing.assert_array_equal(fuse(soft, method), soft[0])


def test_pixelwise_fusions_by_hand():
    soft = np.array([0.1, 0.6, 0.55, 0.2, 0.51]).reshape(5, 1, 1)
    found = {method: fuse(soft, method).item() for method in ("mean", "median", "majority")}
    assert found == pytest.approx({"mean": 0.392, "median": 0.51, "majority": 0.6})


@pytest.mark.parametrize("method", sorted({*fusion.FUSIONS} - {*fusion.WHOLE}))
def test_fusions_that_need_no_whole_image_are_those_of_its_rows(method):
    soft = RANDOM.random((5, 8, 6)).astype(np.float32)
    parts = [fuse(soft[:, top : top + 3], method) for top in range(0, 8, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), fuse(soft, method))


@pytest.mark.parametrize("method", fusion.FUSIONS)
def test_a_value_that_is_no_number_is_not_hidden(method):
    soft = RANDOM.random((1, 3, 3)).astype(np.float32)
    soft[0, 1, 1] = np.nan
    assert np.isnan(fuse(soft, method)[1, 1]) and np.isfinite(fuse(soft, method)).sum() == 8


def test_an_average_at_another_size_is_the_fusion_of_the_resized_masks():
    soft = RANDOM.uniform(-0.2, 1.2, (3, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(average(soft, (4, 4), "median"), np.median(soft.clip(0, 1), 0))
    single = [average(one[None], (9, 7)) for one in soft]
    np.testing.assert_allclose(average(soft, (9, 7), "median"), np.median(single, 0), atol=1e-7)
