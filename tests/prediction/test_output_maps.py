"""The maps of an image are those of all its generations, whatever bands of rows they come in."""

import numpy as np
import pytest
from bounds import assert_within

from segdiff_jax.certainty.answers import Objects
from segdiff_jax.certainty.doubtful import Doubtful
from segdiff_jax.errors import INTERNAL, UserError
from segdiff_jax.prediction import output_maps, overlay
from segdiff_jax.prediction.output_maps import OutputMaps

SLACK = 4 * 65535 * 2**-23  # of whole numbers to 65535, made of shares in float32
RNG = np.random.default_rng(1)
SOFT = RNG.uniform(-0.2, 1.2, (5, 41, 30)).astype(np.float32)


def filled(generations, bands=(), threshold=0.5, keep_in=None, samples=None, **options):
    maps = OutputMaps(
        generations.shape[1:], threshold, keep_in, ("generations", "samples"), **options
    )
    mean = generations.clip(0, 1).mean(axis=0)
    edges = [0, *bands, generations.shape[1]]
    for top, bottom in zip(edges, edges[1:], strict=False):
        rows = slice(top, bottom)
        drawn = None if samples is None else samples[:, rows]
        maps.add(top, generations[:, rows], mean[rows], drawn)
    return maps


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 1.0


@pytest.mark.parametrize("threshold", [0.3, 0.5])
@pytest.mark.parametrize("bands", [(), (1, 2, 40), (16, 32)])
def test_maps_and_statistics_are_those_of_all_generations_at_once(bands, threshold, monkeypatch):
    monkeypatch.setattr(
        output_maps, "MAX_VALUES", 5 * 30 * 4
    )  # four rows, so that bands are cut too
    soft = SOFT.astype(np.float64).clip(0, 1)
    mean, std = soft.mean(0), soft.std(0)
    maps = filled(SOFT, bands, threshold)
    assert_within(maps.probability, 65535 * mean, 0.5, SLACK)
    assert_within(maps.uncertainty, 65535 * 2 * std, 0.5, SLACK)
    np.testing.assert_array_equal(maps.mask, np.where(mean > threshold, 255, 0))
    statistics = maps.statistics()
    agreement = np.mean([dice(own > threshold, mean > threshold) for own in soft])
    wanted = (mean > threshold).mean(), np.maximum(mean, 1 - mean).mean(), std.mean(), agreement
    np.testing.assert_allclose(statistics, (*wanted, 0), rtol=1e-6)


def test_generations_that_agree_and_that_disagree():
    certain = filled(np.ones((3, 4, 4)))
    assert certain.statistics() == (1.0, 1.0, 0.0, 1.0, 0)
    assert (certain.probability == 65535).all() and (certain.uncertainty == 0).all()
    split = np.zeros((2, 4, 4))
    split[0] = 1
    maps = filled(split)
    assert (maps.uncertainty == 65535).all() and (maps.mask == 0).all()
    assert maps.statistics() == (0.0, 0.5, 0.5, 0.5, 0)  # one of the two is empty, as the mean is


def test_nothing_anywhere_is_full_agreement():
    assert filled(np.zeros((3, 4, 4))).statistics() == (0.0, 1.0, 0.0, 1.0, 0)


@pytest.mark.parametrize("bands", [(), (1, 2, 40)])
def test_the_agreement_is_that_of_the_samples_if_there_are_any(bands, tmp_path):
    samples = (RNG.random((7, 41, 30)) < 0.6).astype(np.uint8)
    maps = filled(SOFT, bands, 0.4, tmp_path, samples)
    final = SOFT.clip(0, 1).mean(0) > 0.4
    agreement = np.mean([dice(one > 0, final) for one in samples])
    assert maps.statistics().agreement == pytest.approx(agreement)
    assert maps.statistics().samples == 7
    np.testing.assert_array_equal(maps.samples, 255 * samples)
    assert list(tmp_path.iterdir()) == []
    without = filled(SOFT, bands, 0.4)
    np.testing.assert_array_equal(maps.mask, without.mask)
    assert maps.statistics()[:3] == without.statistics()[:3]


@pytest.mark.parametrize("bands", [(), (1, 2, 40)])
def test_the_agreement_of_a_map_is_the_dice_of_its_mask_that_it_expects(bands):
    """2 sum(p m) / (sum p + sum m), where a single map is all there is."""
    p = RNG.random((1, 41, 30)).astype(np.float32)
    options = {"random": False, "expected": True}
    mask = p[0] > 0.5
    wanted = 2 * p[0][mask].sum() / (p.sum() + mask.sum())
    found = filled(p, bands, **options)
    assert found.statistics().agreement == pytest.approx(wanted, rel=1e-6)
    assert_within(found.uncertainty, 131070 * np.sqrt(p[0] * (1 - p[0])), 0.5, 2 * SLACK)
    assert filled(p, random=False).statistics().agreement == 1.0
    assert filled(np.zeros((1, 3, 3)), **options).statistics().agreement == 1.0
    assert filled(SOFT, **options).statistics().agreement == filled(SOFT).statistics().agreement


def test_the_mask_is_the_upper_half_of_the_stored_probability():
    near = np.float32(0.5) + np.arange(-40, 41, dtype=np.float32) * np.float32(2**-24)
    maps = filled(near[None, None])
    np.testing.assert_array_equal(maps.mask > 0, maps.probability > 32767)
    np.testing.assert_array_equal(maps.mask[0] > 0, near > 0.5)


def test_generations_are_kept_in_a_file_without_a_name(tmp_path):
    maps = filled(SOFT, (7,), keep_in=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert_within(maps.generations, 65535 * SOFT.clip(0, 1), 0.5, SLACK)
    assert filled(SOFT).generations is None and filled(SOFT).samples is None


def test_the_probability_may_be_another_fusion_than_the_mean():
    maps, median = OutputMaps((41, 30), 0.5), np.median(SOFT.clip(0, 1), axis=0)
    maps.add(0, SOFT, median)
    assert_within(maps.probability, 65535 * median, 0.5, SLACK)
    np.testing.assert_array_equal(maps.mask > 0, median > 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused(value):
    bad = SOFT.copy()
    bad[2, 20, 3] = value
    with pytest.raises(UserError, match="not a finite number") as error:
        filled(bad, (16,))
    assert error.value.code == INTERNAL


def test_missing_and_doubled_rows_are_errors():
    maps = OutputMaps((41, 30), 0.5)
    mean = SOFT.clip(0, 1).mean(0)
    maps.add(0, SOFT[:, :10], mean[:10])
    with pytest.raises(ValueError, match="10 of 41 rows"):
        maps.statistics()
    for top, rows in ((11, SOFT[:, 11:]), (0, SOFT[:, :10]), (10, SOFT), (10, SOFT[:, 10:, :29])):
        with pytest.raises(ValueError, match="after 10 rows"):
            maps.add(top, rows, mean)


def test_the_overlay_outlines_the_mask_and_tints_what_is_unsure():
    image = np.full((20, 20, 3), 100, np.uint8)
    mask, spread = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint16)
    mask[5:15, 5:15] = 255
    spread[9:11, 9:11] = 65535
    picture = overlay.overlay(image, mask, spread)
    kinds = np.full((20, 20), ".")
    for letter, colour in (("y", overlay.INSIDE), ("k", overlay.OUTSIDE), ("i", (100, 100, 100))):
        kinds[(picture == colour).all(-1)] = letter
    assert "".join(kinds[10]) == "iiiikyiii..iiiyk" + "iiii"
    assert "".join(kinds[4]) == "iiiii" + "k" * 10 + "iiiii"
    weight = overlay.STRENGTH
    wanted = np.rint(100 * (1 - weight) + np.array(overlay.TINT) * weight)
    np.testing.assert_array_equal(picture[9, 9], wanted)
    assert (image == 100).all()


@pytest.mark.parametrize("factor", [1, 2])
def test_outlines_have_the_colour_of_the_confidence_and_doubtful_objects_that_of_the_tint(
    factor, monkeypatch
):
    monkeypatch.setattr(overlay, "LONGEST", 40 // factor)
    labels = np.zeros((40, 40), int)
    labels[4:16, 4:16], labels[22:36, 22:36] = 1, 2
    image, spread = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint16)
    mask, half = np.uint8(255) * (labels > 0), np.array([0.5, 0.5])
    one = Doubtful(4, 24, np.ones((8, 8), bool), 0.3, 0.3, 1.0)
    sure, unknown = np.array([1.0, 0.0]), np.array([np.nan, np.nan])
    for confidence, held, colours in (
        (sure, half, (overlay.INSIDE, overlay.UNSURE)),
        (unknown, 1 - sure, (overlay.UNSURE, overlay.INSIDE)),
    ):
        known = Objects(labels, np.array([144, 196]), half, held, unknown, confidence, (one,))
        picture = overlay.overlay(image, mask, spread, None, known)
        places = ((4, 8), (22, 28), (4, 28), (11, 31), (6, 26))
        got = [tuple(map(int, picture[y // factor, x // factor])) for y, x in places]
        assert got == [*colours, overlay.TINT, overlay.TINT, (0, 0, 0)]


@pytest.mark.parametrize("shape", [(40, 30), (41, 33), (16, 16)])
def test_a_large_overlay_is_reduced_by_means(shape, monkeypatch):
    monkeypatch.setattr(overlay, "LONGEST", 16)
    monkeypatch.setattr(overlay, "STRIP", 3)
    image = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    nothing = np.zeros(shape, np.uint8)
    picture = overlay.overlay(image, nothing, nothing.astype(np.uint16))
    factor = -(-max(shape) // 16)
    assert picture.shape[:2] == tuple(-(-side // factor) for side in shape)
    for y, x in np.ndindex(picture.shape[:2]):
        square = image[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert_within(picture[y, x], square.mean((0, 1)), 1, 1e-6)  # rounded or cut
