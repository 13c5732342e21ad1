"""What training sees of an example: windows that belong to (seed, place in the stream) alone."""

from itertools import islice

import numpy as np
import pytest

from segdiff_jax.data.batches import batches
from segdiff_jax.data.crops import full_image, random_crop
from segdiff_jax.data.example import Example


def example(height, width, name="a"):
    y, x = np.mgrid[:height, :width]
    image = np.stack([y, x, y * 9 + x], axis=-1).astype(np.uint8)
    return Example(image, ((y * 7 + x) % 2).astype(np.uint8), name)


def test_a_crop_is_a_window_of_image_and_mask_at_one_place_and_all_places_occur():
    one, generator = example(12, 9), np.random.default_rng(0)
    corners = []
    for _ in range(1000):
        image, mask = random_crop(6)(generator, one)
        top, left = image[0, 0, :2].astype(int)
        window = np.s_[top : top + 6, left : left + 6]
        np.testing.assert_array_equal(image, one.image[window])
        np.testing.assert_array_equal(mask, one.mask[window])
        corners.append((top, left))
    _, counts = np.unique(corners, axis=0, return_counts=True)
    assert len(counts) == 7 * 4 and counts.max() < 3 * counts.min()


def test_a_crop_of_all_is_the_whole():
    one = example(8, 8)
    image, mask = random_crop(8)(np.random.default_rng(0), one)
    np.testing.assert_array_equal(image, one.image)
    np.testing.assert_array_equal(mask, one.mask)
    assert random_crop(0) is full_image


def test_a_smaller_image_is_continued_by_reflection_and_its_mask_alike():
    one = example(3, 12)
    image, mask = random_crop(5)(np.random.default_rng(0), one)
    assert image.shape == (5, 5, 3) and mask.shape == (5, 5)
    assert image[:, 0, 0].tolist() == [0, 1, 2, 1, 0]
    np.testing.assert_array_equal(mask, (image[..., 0] * 7 + image[..., 1]) % 2)


SIZES = [(8, 8), (9, 20), (3, 5), (30, 7)]
MIXED = [example(*size, name=str(size)) for size in SIZES]


def test_images_of_any_size_make_batches_of_one_size():
    for batch in islice(batches(MIXED, 6, seed=0, crop=random_crop(6)), 4):
        assert batch.image.shape == (6, 6, 6, 3) and batch.mask.shape == (6, 6, 6)


@pytest.mark.parametrize("batch_size", [2, 6])
def test_views_are_the_same_after_a_restart_and_whatever_the_batch_size(batch_size):
    def stream(start, size):
        steps = batches(MIXED, size, seed=3, start=start, crop=random_crop(4))
        return np.concatenate([batch.image for batch in islice(steps, 12 // size)])

    np.testing.assert_array_equal(stream(1, batch_size), stream(batch_size, 1))


def test_processes_see_the_parts_of_one_batch():
    whole_batch = next(batches(MIXED, 6, seed=1, crop=random_crop(4))).image
    parts = [next(batches(MIXED, 6, seed=1, process=(i, 3), crop=random_crop(4))) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate([part.image for part in parts]), whole_batch)


def test_every_visit_and_every_seed_sees_another_window():
    one = [example(100, 100)]
    seen = {
        batch.image.tobytes()
        for seed in range(3)
        for batch in islice(batches(one, 1, seed=seed, crop=random_crop(10)), 10)
    }
    assert len(seen) == 30
