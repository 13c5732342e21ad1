"""Resizing against JAX, Pillow, exact fractions and pictures small enough to work out."""

from fractions import Fraction

import jax
import numpy as np
import pytest
from PIL import Image

from segdiff_jax.data.resize import area, bilinear, majority, nearest

SIZES = [(8, 8), (4, 4), (3, 5), (5, 3), (1, 1), (7, 8), (8, 1)]
LARGER = [(16, 16), (9, 13), (3, 20), (20, 3)]


def picture(*shape, seed=0, top=256, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def exact_area(image, size):
    """The overlap of every old with every new pixel, as fractions."""
    (h, w), (H, W) = image.shape, size

    def overlap(n, wanted, i, j):
        low, high = max(Fraction(i * n, wanted), j), min(Fraction((i + 1) * n, wanted), j + 1)
        return max(high - low, Fraction(0))

    return [
        [
            sum(
                overlap(h, H, i, a) * overlap(w, W, j, b) * int(image[a, b])
                for a in range(h)
                for b in range(w)
            )
            / (Fraction(h, H) * Fraction(w, W))
            for j in range(W)
        ]
        for i in range(H)
    ]


def test_bilinear_of_hand_computed_rows():
    np.testing.assert_array_equal(bilinear(np.array([[0, 1]]), (1, 4)), [[0, 0.25, 0.75, 1]])
    np.testing.assert_array_equal(bilinear(np.array([[0], [1], [0]]), (1, 1)), [[1]])
    # Without antialiasing a reduction looks at the two pixels in the middle only.
    np.testing.assert_array_equal(bilinear(np.array([[8, 0, 2, 8]]), (1, 1)), [[1]])


@pytest.mark.parametrize("size", SIZES + LARGER)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_bilinear_is_the_rule_of_jax(size, channels):
    image = picture(8, 8, *channels)
    expected = jax.image.resize(
        image.astype(np.float32), (*size, *channels), "linear", antialias=False
    )
    ours = bilinear(image, size)
    assert ours.dtype == np.float32
    # on both axes jax rounds places up to 8 twice, and neighbours differ by up to 255
    near = 2 * 2 * 8 * 2**-24 * 255
    np.testing.assert_allclose(ours, expected, rtol=0, atol=near)


def test_bilinear_to_half_the_size_is_the_mean_of_four():
    image = picture(8, 6, dtype=np.float32)
    expected = image.reshape(4, 2, 3, 2).mean((1, 3))
    np.testing.assert_array_equal(bilinear(image, (4, 3)), expected)


def test_channels_are_resized_each_on_its_own():
    image = picture(9, 7, 3)
    for resize in (bilinear, nearest, area):
        each = [resize(image[..., c], (4, 5)) for c in range(3)]
        np.testing.assert_array_equal(resize(image, (4, 5)), np.stack(each, -1))


@pytest.mark.parametrize("size", SIZES + LARGER)
def test_nearest_takes_the_pixel_in_which_the_new_one_begins(size):
    image = picture(8, 7, dtype=np.uint16, top=60000)
    ours = nearest(image, size)
    assert ours.shape == size and ours.dtype == image.dtype
    for i in range(size[0]):
        for j in range(size[1]):
            row, column = int(Fraction(i * 8, size[0])), int(Fraction(j * 7, size[1]))
            assert ours[i, j] == image[row, column]


def test_nearest_to_half_the_size_is_every_second_pixel():
    image = picture(6, 8, 3)
    np.testing.assert_array_equal(nearest(image, (3, 4)), image[::2, ::2])


@pytest.mark.parametrize("size", SIZES)
def test_area_is_the_mean_over_what_a_new_pixel_covers(size):
    image = picture(8, 8)
    ours = area(image, size)
    assert ours.shape == size and ours.dtype == np.float32
    np.testing.assert_array_equal(ours, np.array(exact_area(image, size), np.float32))


@pytest.mark.parametrize("size", [(6, 5), (3, 10), (12, 20)])
def test_area_is_pillows_box_where_the_ratio_is_whole(size):
    # At other ratios Pillow's box takes whole pixels by their centres.
    image = picture(12, 20, dtype=np.float32)
    box = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BOX)
    np.testing.assert_allclose(area(image, size), np.array(box), rtol=1e-6)


def test_area_keeps_the_mean_and_a_constant():
    image = picture(37, 53, dtype=np.float32)
    assert area(image, (11, 29)).mean() == pytest.approx(image.mean(), rel=1e-6)
    np.testing.assert_array_equal(area(np.full((9, 9), 7), (4, 5)), 7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [*SIZES, (4, 6), (6, 4)])
def test_majority_is_half_or_more_of_the_exact_area(size, seed):
    mask = picture(8, 8, seed=seed, top=2)
    expected = np.array(exact_area(mask, size)) >= Fraction(1, 2)
    ours = majority(mask, size)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, expected)


def test_majority_sees_a_tie_between_pixels_too():
    # Each new pixel covers 7/3 of an old row: 1 + 1/6 of them foreground, exactly one half.
    mask = np.zeros((7, 6), np.uint8)
    mask[:, :3] = 1
    np.testing.assert_array_equal(majority(mask, (3, 1)), [[1], [1], [1]])
    mask[0, 0] = 0
    np.testing.assert_array_equal(majority(mask, (3, 1)), [[0], [1], [1]])


def test_nan_stays_where_it_is_covered():
    image = np.ones((4, 4), np.float32)
    image[0, 0] = np.nan
    np.testing.assert_array_equal(np.isnan(area(image, (2, 2))), [[True, False], [False, False]])


@pytest.mark.parametrize("reduce", [area, majority])
@pytest.mark.parametrize("size", [(5, 4), (4, 5), (3, 5)])
def test_averaging_over_areas_refuses_to_enlarge(reduce, size):
    with pytest.raises(ValueError, match="only reduces"):
        reduce(np.ones((4, 4), np.uint8), size)


@pytest.mark.parametrize("resize", [bilinear, nearest, area, majority])
@pytest.mark.parametrize("shape, size", [((4,), (2, 2)), ((0, 4), (2, 2)), ((4, 4), (0, 2))])
def test_what_is_no_image_is_refused(resize, shape, size):
    with pytest.raises(ValueError, match="no side 0"):
        resize(np.zeros(shape, np.uint8), size)


@pytest.mark.parametrize("value", [2, 255])
def test_majority_refuses_what_is_no_mask(value):
    with pytest.raises(ValueError, match=f"this one .*{value}"):
        majority(np.array([[0, value]]), (1, 1))
