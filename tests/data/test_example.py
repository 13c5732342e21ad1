"""The crossings between {0, 1}, {-1, +1}, [0, 1] and 0..255."""

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.data.example import (
    Batch,
    Example,
    majority,
    normalise,
    to_probability,
    to_signed,
)

MEAN, STD = (142.0, 98.0, 132.0), (64.0, 32.0, 16.0)


def test_normalise_subtracts_the_mean_and_divides_by_the_deviation_of_each_channel():
    image = np.array([[[142, 98, 132], [206, 34, 148], [78, 130, 100]]], np.uint8)
    truth = [[[0, 0, 0], [1, -2, 1], [-1, 1, -2]]]
    np.testing.assert_allclose(normalise(image, MEAN, STD), truth, atol=1e-6)


def test_normalise_treats_bytes_floats_numpy_jax_and_jit_alike():
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3)).astype(np.uint8)
    outs = [
        normalise(image, MEAN, STD),
        normalise(image.astype(np.float64), MEAN, STD),
        normalise(jnp.asarray(image), np.array(MEAN), np.array(STD)),
        jax.jit(lambda image: normalise(image, MEAN, STD))(image),
    ]
    for out in outs:
        assert out.dtype == jnp.float32 and out.shape == image.shape
        np.testing.assert_allclose(out, outs[0], atol=1e-6)


def test_normalised_bytes_of_unit_statistics_are_the_bytes():
    image = np.arange(255, 255 - 12, -1).astype(np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(normalise(image, (0, 0, 0), (1, 1, 1)), image)


def test_normalise_keeps_the_fractions_that_augmentation_makes():
    image = np.full((1, 1, 3), 127.25, np.float32)
    np.testing.assert_array_equal(
        normalise(image, (127, 127, 127), (1, 2, 4)), [[[0.25, 0.125, 0.0625]]]
    )


def test_background_is_minus_one_and_foreground_plus_one():
    out = to_signed(np.array([[0, 1], [1, 0]], np.uint8))
    assert out.dtype == jnp.float32 and out.shape == (2, 2, 1)
    np.testing.assert_array_equal(out[..., 0], [[-1, 1], [1, -1]])


def test_probability_of_a_signed_mask_is_the_mask():
    mask = np.random.default_rng(0).integers(0, 2, (5, 6, 7)).astype(np.uint8)
    np.testing.assert_array_equal(jax.jit(to_probability)(to_signed(mask)), mask)


def test_probability_is_linear_and_leaves_the_clipping_to_the_average():
    x0 = np.array([-3, -1, -0.5, 0, 0.5, 1, 3], np.float32)[None, :, None]
    np.testing.assert_array_equal(to_probability(x0), [[-1, 0, 0.25, 0.5, 0.75, 1, 2]])


def test_a_batch_passes_through_jit_and_keeps_its_bytes():
    batch = Batch(image=np.full((2, 4, 4, 3), 200, np.uint8), mask=np.ones((2, 4, 4), np.uint8))
    out = jax.jit(lambda batch: batch.replace(mask=1 - batch.mask))(batch)
    assert out.image.dtype == out.mask.dtype == jnp.uint8
    assert (out.image == 200).all() and not out.mask.any()


def test_an_example_needs_neither_box_nor_group():
    one = Example(np.zeros((4, 4, 3), np.uint8), np.ones((8, 8), np.uint8), "a.tif")
    assert (one.name, one.box, one.group) == ("a.tif", None, "")


def test_the_majority_marks_what_at_least_half_mark():
    for count in (1, 2, 3, 4, 200):
        masks = np.random.default_rng(count).integers(0, 2, (count, 5, 6)).astype(np.uint8)
        votes = [[2 * int(masks[:, y, x].sum()) >= count for x in range(6)] for y in range(5)]
        np.testing.assert_array_equal(majority(masks), votes)
        assert majority(masks).dtype == np.uint8
