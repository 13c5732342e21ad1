"""Windows around one object: the rule of the authors, and what training and scoring see."""

import numpy as np
import pytest
from bounds import assert_within
from object_windows import by_rule
from scipy import ndimage

from segdiff_jax.data import object_crops
from segdiff_jax.data.example import Example


def test_a_window_follows_the_rule_for_any_box():
    random = np.random.default_rng(0)
    for _ in range(3000):
        height, width = random.integers(1, 3000, 2).tolist()
        top, left = int(random.integers(height)), int(random.integers(width))
        rows, columns = (int(random.integers(1, n + 1)) for n in (height - top, width - left))
        # In floating point, 7, 14 and 17 % miss some halves.
        percent = int(random.choice([0, 5, 10, 11, 12, 13, 15, 16, 18, 19, 20]))
        box = top, left, rows, columns
        found = object_crops.window(box, percent, height, width)
        assert found == by_rule(box, percent, height, width), (box, percent)
        y, x, bottom, right = object_crops.stored_window(box, height, width)
        inner = (top - y, left - x, rows, columns)
        moved = np.add(object_crops.window(inner, percent, bottom - y, right - x), (y, x, y, x))
        assert tuple(moved) == found, (box, percent)


@pytest.mark.parametrize(
    ("box", "percent", "expected"),
    [
        ((10, 10, 20, 20), 0, (10, 10, 30, 30)),
        ((10, 10, 20, 20), 15, (8, 8, 32, 32)),  # 8.5 and 31.5: both to even
        ((11, 11, 20, 20), 15, (10, 10, 32, 32)),  # 9.5 and 32.5
        ((40, 20, 40, 100), 20, (36, 10, 84, 130)),  # of its own height and width
        ((0, 190, 40, 10), 20, (0, 189, 44, 200)),  # cut by the image
    ],
)
def test_a_window_in_numbers(box, percent, expected):
    assert object_crops.window(box, percent, 200, 200) == expected


def bilinear(image, size):
    """Half-pixel centres, the border repeated, no antialias; by SciPy."""
    places = [(np.arange(size) + 0.5) * n / size - 0.5 for n in image.shape[:2]]
    grid = np.meshgrid(*places, indexing="ij")
    channels = [
        ndimage.map_coordinates(image[..., c].astype(float), grid, order=1, mode="nearest")
        for c in range(3)
    ]
    return np.stack(channels, -1)


def drawn_object(height=300, width=260, box=(60, 50, 160, 140)):
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    mask = random.integers(0, 2, (height, width), np.uint8)
    return Example(image, mask, "an object", box, "bus")


@pytest.mark.parametrize("percent", [0, 15, 20])
@pytest.mark.parametrize("size", [128, 400])
def test_a_scored_object_is_its_resized_window_and_the_mask_as_it_is(percent, size):
    example = drawn_object()
    top, left, bottom, right = by_rule(example.box, percent, 300, 260)
    scored = object_crops.eval_crop(example, percent, size)
    crop = bilinear(example.image[top:bottom, left:right], size)
    assert scored.image.dtype == np.uint8 and scored.image.shape == (size, size, 3)
    assert_within(scored.image, crop, 0.5, 1e-4)  # rounded, not cut
    np.testing.assert_array_equal(scored.mask, example.mask[top:bottom, left:right])
    assert (scored.name, scored.box, scored.group) == ("an object", None, "bus")


def seen_percent(example, image, mask, size):
    """Which expansion a view has drawn."""
    found = []
    for percent in range(21):
        top, left, bottom, right = object_crops.window(example.box, percent, *example.mask.shape)
        rows, columns = ((np.arange(size) * n) // size for n in (bottom - top, right - left))
        crop = example.mask[top:bottom, left:right][rows][:, columns]
        scored = object_crops.eval_crop(example, percent, size).image
        if np.array_equal(crop, mask) and np.array_equal(scored, image):
            found.append(percent)
    (percent,) = found
    return percent


def test_training_draws_every_whole_percentage_equally_often_at_every_visit():
    example, random = drawn_object(), np.random.default_rng(0)
    view = object_crops.train_crop(32, 10, 20, True, 0)
    drawn = [seen_percent(example, *view(random, example), 32) for _ in range(550)]
    counts = np.bincount(drawn, minlength=21)
    assert counts[:10].sum() == 0
    assert (abs(counts[10:] - 50) < 30).all()  # 50 +- 6.7 each
    first = [seen_percent(example, *view(np.random.default_rng(7), example), 32) for _ in "ab"]
    assert first[0] == first[1]  # a function of the generator


def test_training_may_draw_once_for_each_object():
    view = object_crops.train_crop(32, 10, 20, False, 0)
    other = object_crops.train_crop(32, 10, 20, False, 1)
    drawn = []
    for number in range(200):
        example, random = drawn_object()._replace(name=f"object {number}"), np.random.default_rng()
        first, again, seed = (v(random, example) for v in (view, view, other))
        percent = seen_percent(example, *first, 32)
        assert percent == seen_percent(example, *again, 32)
        drawn.append((percent, seen_percent(example, *seed, 32)))
    assert {a for a, _ in drawn} == {b for _, b in drawn} == set(range(10, 21))
    assert 0 < sum(a == b for a, b in drawn) < 50  # 18 by chance: seeds are apart


def test_a_tight_training_view_is_the_box():
    example = drawn_object()
    view = object_crops.train_crop(32, 0, 0, True, 0)
    assert seen_percent(example, *view(np.random.default_rng(0), example), 32) == 0
