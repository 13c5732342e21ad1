"""Composites of channels: their colours, and sums of them."""

import colorsys

import numpy as np
import pytest

from segdiff_jax.data.composite import GREEN, MAGENTA, colours, composite

IMAGE = np.random.default_rng(1).integers(0, 256, (6, 7, 6), np.uint8)


def test_three_channels_are_the_picture_itself_and_one_is_grey():
    np.testing.assert_array_equal(composite(IMAGE[..., :3]), IMAGE[..., :3])
    grey = composite(IMAGE[..., :1])
    assert grey.shape == (6, 7, 3)
    np.testing.assert_array_equal(grey, IMAGE[..., [0, 0, 0]])


def test_two_channels_are_magenta_and_green():
    np.testing.assert_array_equal(composite(IMAGE[..., :2]), IMAGE[..., [0, 1, 0]])
    assert colours(2).tolist() == [list(MAGENTA), list(GREEN)]


@pytest.mark.parametrize("count", [4, 5, 6, 16])
def test_more_channels_are_evenly_spaced_on_the_colour_circle_from_blue_on(count):
    for k, colour in enumerate(colours(count)):
        hue = (4 / 6 - k / count) % 1
        expected = np.array(colorsys.hsv_to_rgb(hue, 1, 1)) * 255
        np.testing.assert_allclose(colour, expected, atol=0.5 + 1e-6)


def test_the_colours_of_a_pixel_are_added_and_clipped():
    found = composite(IMAGE)
    expected = np.clip(IMAGE.astype(float) @ (colours(6) / 255.0), 0, 255)
    np.testing.assert_allclose(found, expected, atol=0.5 + 1e-3)  # rounded to whole numbers
