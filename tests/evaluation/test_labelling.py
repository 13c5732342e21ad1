"""Labels of the objects of a mask: components, seeds, distances."""

import numpy as np
import pytest
from scipy import ndimage

from segdiff_jax.evaluation.labelling import SMALLEST, label


def discs(*places, shape=(40, 60)):
    """Returns labels of discs (row, column, radius); the first keeps what two share."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int64)
    for number, (row, column, radius) in enumerate(places, 1):
        inside = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        labels[inside & (labels == 0)] = number
    return labels


def same_objects(a, b):
    """Returns whether two label images are equal but for their numbers."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def cores(labels):
    """Returns an interior map: 1 where a disc of radius 2 lies within one label, else 0."""
    eroded = [ndimage.binary_erosion(labels == n, iterations=2) for n in range(1, labels.max() + 1)]
    return np.any(eroded, axis=0).astype(np.float32)


def test_objects_that_touch_are_one_component():
    truth = discs((20, 15, 9), (20, 33, 9), (30, 50, 4))
    assert label(truth).max() == 2


def test_the_interiors_of_objects_tell_those_apart_that_touch():
    truth = discs((20, 15, 9), (20, 33, 9), (30, 50, 4))
    found = label(truth, cores(truth))
    assert found.max() == 3
    assert same_objects(
        np.where(ndimage.binary_dilation(truth == 0), 0, truth),
        found * (~ndimage.binary_dilation(truth == 0)),
    )
    np.testing.assert_array_equal(found > 0, truth > 0)


def test_the_interior_adds_and_removes_no_pixel_and_no_object_with_one_seed_or_none():
    truth = discs((10, 10, 6), (30, 40, 8))
    interior = np.zeros(truth.shape, np.float32)
    np.testing.assert_array_equal(label(truth, interior), label(truth))
    interior[30, 40] = interior[2, 58] = 1  # a seed of one pixel, and one outside of the mask
    np.testing.assert_array_equal(label(truth, interior), label(truth))


def test_a_shallow_pass_divides_and_a_ripple_does_not():
    mask = np.ones((8, 30), np.uint8)
    across = np.abs(np.arange(30) - 14.5) / 14.5  # 1 at both ends, 0 in the middle
    for low, objects in ((0.2, 2), (0.7, 2), (0.85, 2), (0.95, 1)):
        interior = np.tile(low + (1 - low) * across, (8, 1))
        assert label(mask, interior).max() == objects, low
        integers = np.rint(interior * 65535).astype(np.uint16)
        assert label(mask, integers).max() == objects, low
    assert label(mask, np.tile(0.4 * across, (8, 1))).max() == 1  # nothing is above one half


def test_a_piece_too_small_to_be_an_object_joins_its_neighbour():
    mask = np.zeros((12, 12), np.uint8)
    mask[5, 2:9] = 1
    interior = np.zeros(mask.shape, np.float32)
    interior[5, [2, 4, 8]] = 1  # the pixels between the first two are one
    found = label(mask, interior)
    sizes = np.bincount(found.ravel())[1:]
    assert sizes.sum() == 7 and (sizes >= SMALLEST).all()


def test_labels_are_numbered_from_one_without_gaps():
    rng = np.random.default_rng(0)
    mask = ndimage.gaussian_filter(rng.random((200, 300)), 2) > 0.5
    interior = ndimage.gaussian_filter(rng.random((200, 300)), 1)
    for found in (label(mask), label(mask, interior), label(mask, by_distance=True)):
        np.testing.assert_array_equal(np.unique(found), np.arange(found.max() + 1))
        assert (np.bincount(found.ravel())[1:] >= SMALLEST).all()


def test_every_object_lies_within_one_component_and_is_connected():
    rng = np.random.default_rng(1)
    mask = ndimage.gaussian_filter(rng.random((120, 120)), 2) > 0.49
    found = label(mask, ndimage.gaussian_filter(rng.random((120, 120)), 1))
    components, _ = ndimage.label(mask)
    for number in range(1, found.max() + 1):
        assert len(np.unique(components[found == number])) == 1
        assert ndimage.label(found == number)[1] == 1
    assert found.max() > label(mask).max()


def test_the_distance_to_the_background_divides_convex_objects_that_touch():
    truth = discs((20, 14, 9), (20, 30, 9), (20, 50, 5))
    found = label(truth, by_distance=True)
    assert found.max() == 3 and label(truth).max() == 2
    centres = [found[20, x] for x in (14, 30, 50)]
    assert len(set(centres)) == 3
    assert (found == truth).mean() > 0.98 or same_objects(found, truth)


def test_the_distance_leaves_one_disc_and_one_thick_bar_whole():
    bar = np.zeros((30, 60), np.uint8)
    bar[8:20, 5:50] = 1
    for mask in (bar, discs((20, 20, 12)), discs((2, 20, 9))):
        assert label(mask, by_distance=True).max() == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (0, 5)])
def test_any_shape_is_labelled(shape):
    assert label(np.zeros(shape), np.zeros(shape)).shape == shape
    full = label(np.ones(shape), np.ones(shape))
    assert full.max(initial=0) == (full.size >= SMALLEST)


def test_objects_of_a_class_map_are_its_regions_and_rims_belong_to_what_they_lie_at():
    classes = np.zeros((14, 30), np.uint8)
    classes[2:12, 2:9], classes[2:12, 9:17] = 1, 2
    whole = label(classes > 0, classes=classes)
    assert whole.max() == 2
    for k in (1, 2):
        np.testing.assert_array_equal(whole == k, classes == k)
    speckled = classes.copy()
    speckled[5, 4:7], speckled[2:12, 16] = 2, 1  # a scratch, and a rim of one pixel
    np.testing.assert_array_equal(label(speckled > 0, classes=speckled), whole)
    thin = np.zeros((14, 30), np.uint8)
    thin[3:5, 3:8], thin[5, 3:8] = 1, 2  # nowhere three wide: one object
    np.testing.assert_array_equal(label(thin > 0, classes=thin) == 1, thin > 0)


def test_interiors_divide_objects_whatever_their_classes():
    mask = np.zeros((10, 20), np.uint8)
    mask[1:9, 1:19] = 1
    inside = np.zeros((10, 20), np.float32)
    inside[2:8, 2:9], inside[2:8, 11:18] = 0.9, 0.9
    classes = mask * np.uint8(1)
    classes[4:6] *= 2
    found = label(mask, inside, classes=classes)
    np.testing.assert_array_equal(found, label(mask, inside))
