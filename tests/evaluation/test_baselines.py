"""Baselines: the fast search against trying every threshold."""

import numpy as np
import pytest

from segdiff_jax.data.example import Example
from segdiff_jax.evaluation import baselines
from segdiff_jax.evaluation.baselines import CHANNELS, Threshold, all_foreground, best_threshold
from segdiff_jax.metrics import KEYS, dice


def example(seed: int, levels: int = 12, channel: int = 1) -> Example:
    """Noise of few grey levels; where one channel is dark, the truth is mostly foreground."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, levels, (8, 9, 3), np.uint8)
    mask = (image[..., channel] < levels // 3) ^ (rng.random((8, 9)) < 0.15)
    return Example(image, mask.astype(np.uint8), f"noise {seed}")


def every_threshold():
    return [Threshold(c, l, b) for c in CHANNELS for b in (False, True) for l in range(256)]  # noqa: E741


def mean_dice(threshold: Threshold, examples: list[Example]) -> float:
    return float(np.mean([dice(threshold.apply(e.image), e.mask) for e in examples]))


@pytest.mark.parametrize("seed", range(3))
def test_best_threshold_is_the_best_of_all_tried(seed):
    examples = [example(10 * seed + i, channel=seed) for i in range(3)]
    tried = [mean_dice(threshold, examples) for threshold in every_threshold()]
    found = best_threshold(examples)
    assert mean_dice(found, examples) == pytest.approx(max(tried))
    assert found == every_threshold()[int(np.argmax(tried))]


@pytest.mark.parametrize("bright", [False, True])
@pytest.mark.parametrize("channel", range(3))
def test_best_threshold_finds_the_rule_that_made_the_masks(channel, bright):
    rule = Threshold(CHANNELS[channel], 99, bright)
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    examples = [Example(image, rule.apply(image).astype(np.uint8), "") for image in images]
    assert best_threshold(examples) == rule


def test_best_threshold_finds_a_grey_rule():
    images = np.random.default_rng(0).integers(0, 256, (2, 60, 60, 3), np.uint8)
    luma = [np.round(i[..., 0] * 0.299 + i[..., 1] * 0.587 + i[..., 2] * 0.114) for i in images]
    examples = [
        Example(i, (g > 120).astype(np.uint8), "") for i, g in zip(images, luma, strict=True)
    ]
    found = best_threshold(examples)
    assert found == Threshold("grey", 120, True)
    assert mean_dice(found, examples) == 1


def test_of_other_channels_than_three_each_is_tried_and_their_mean():
    images = np.random.default_rng(0).integers(0, 256, (2, 30, 30, 5), np.uint8)
    found = best_threshold([Example(i, (i[..., 4] > 77).astype(np.uint8), "") for i in images])
    assert str(found) == "channel 4 > 77"
    mean = [np.rint(i.mean(axis=-1)) for i in images]
    examples = [
        Example(i, (m <= 90).astype(np.uint8), "") for i, m in zip(images, mean, strict=True)
    ]
    assert str(best_threshold(examples)) == "mean <= 90"


def test_every_image_counts_the_same_whatever_its_size():
    small, large = np.zeros((2, 2, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)
    small[0], large[:20] = 100, 200
    dark = Example(large, (large[..., 0] == 0).astype(np.uint8), "dark is foreground")
    bright = [Example(small, (small[..., 0] == 100).astype(np.uint8), "bright is foreground")] * 3
    assert best_threshold([dark, *bright]).bright


def test_directions_are_each_others_complement():
    image = example(0, levels=256).image
    for channel in CHANNELS:
        above, below = (Threshold(channel, 77, bright).apply(image) for bright in (True, False))
        np.testing.assert_array_equal(above, ~below)


def test_an_image_is_resized_to_a_larger_mask_by_nearest_neighbour():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 1] = 200
    mask = np.zeros((6, 4), np.uint8)
    mask[:3, 2:] = 1
    rows = baselines.baseline_rows([Example(image, mask, "")], [Example(image, mask, "")])
    assert rows["best threshold chosen on training images"]["iou"] == 1


def test_all_foreground_scores_the_share_of_foreground():
    e = example(0)
    assert all_foreground(e.image).all() and all_foreground(e.image).shape == (8, 9)
    assert baselines.baseline_rows([], [e])["all foreground"]["iou"] == e.mask.mean()


def test_upper_bound_is_never_below_the_fair_threshold():
    train, test = [example(i, channel=0) for i in range(3)], [example(i) for i in range(3, 6)]
    rows = baselines.baseline_rows(train, test)
    fair, upper = list(rows.values())[1:]
    assert fair["dice"] < upper["dice"]  # trained on another channel, so not equal
    assert fair["dice"] == pytest.approx(mean_dice(best_threshold(train), test))
    assert all(set(row) == set(KEYS) for row in rows.values())


def test_a_split_without_foreground_has_baselines_too():
    e = example(0)
    rows = baselines.baseline_rows([], [e._replace(mask=np.zeros_like(e.mask))])
    assert [row["dice"] for row in rows.values()] == [0, 0]


def test_without_training_images_the_fair_threshold_is_left_out():
    assert len(baselines.baseline_rows([], [example(0)])) == 2


def test_a_threshold_reads_as_a_rule():
    assert [str(Threshold("red", 9, b)) for b in (True, False)] == ["red > 9", "red <= 9"]
