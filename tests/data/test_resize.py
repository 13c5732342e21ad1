"""Resizing against JAX, exact fractions and pictures small enough to work out."""

from fractions import Fraction

import jax
import numpy as np
import pytest

from segdiff_jax.data.resize import bilinear, nearest

SIZES = [(8, 8), (4, 4), (3, 5), (5, 3), (1, 1), (7, 8), (8, 1)]
LARGER = [(16, 16), (9, 13), (3, 20), (20, 3)]


def picture(*shape, seed=0, top=256, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


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
    for dtype in (np.float32, np.uint8):
        image = picture(8, 6, dtype=dtype)
        expected = image.reshape(4, 2, 3, 2).mean((1, 3))
        np.testing.assert_array_equal(bilinear(image, (4, 3)), expected)


def test_channels_are_resized_each_on_its_own():
    image = picture(9, 7, 3)
    for resize in (bilinear, nearest):
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


@pytest.mark.parametrize("resize", [bilinear, nearest])
@pytest.mark.parametrize("shape, size", [((4,), (2, 2)), ((0, 4), (2, 2)), ((4, 4), (0, 2))])
def test_what_is_no_image_is_refused(resize, shape, size):
    with pytest.raises(ValueError, match="no side 0"):
        resize(np.zeros(shape, np.uint8), size)
