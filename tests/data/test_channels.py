"""The channels of a mask: bits, interiors of objects, examples that hold them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segdiff_jax.data import augment, channels, crops, resize
from segdiff_jax.data.channels import DEPTH, LEAST, Channels
from segdiff_jax.data.example import Example, by_channel, to_probability, to_signed
from segdiff_jax.errors import UserError

RANDOM = np.random.default_rng(0)


def random_channels(count, shape=(12, 15)):
    return RANDOM.integers(0, 2, (count, *shape), np.uint8)


def discs(*places, shape=(40, 50)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for number, (row, column, radius) in enumerate(places, 1):
        labels[((y - row) ** 2 + (x - column) ** 2 <= radius**2) & (labels == 0)] = number
    return labels


def example(labels, objects=True):
    image = np.zeros((*labels.shape, 3), np.uint8)
    mask = (labels > 0).astype(np.uint8)
    return Example(image, mask, "a", objects=labels if objects else None)


@pytest.mark.parametrize(("count", "dtype"), [(1, np.uint8), (3, np.uint8), (9, np.uint16)])
def test_bits_become_the_channels_that_they_were_made_of(count, dtype):
    each = random_channels(count)
    mask = channels.pack(each)
    assert mask.dtype == dtype
    signed = to_signed(mask, count)
    assert signed.shape == (12, 15, count) and signed.dtype == jnp.float32
    np.testing.assert_array_equal(np.moveaxis(np.asarray(signed), -1, 0), 2.0 * each - 1)
    back = to_probability(signed)
    np.testing.assert_array_equal(back, each[0] if count == 1 else each)


def test_channels_come_before_the_rows_and_one_channel_has_no_axis():
    x = np.zeros((2, 4, 6, 3))
    assert by_channel(x).shape == (2, 3, 4, 6)
    assert by_channel(x[..., :1]).shape == (2, 4, 6)


def test_augmentation_crops_and_resizing_treat_bits_as_each_channel_alone():
    each = random_channels(3, (16, 16))
    image = RANDOM.integers(0, 256, (16, 16, 3)).astype(np.float32)
    chain = augment.chain(augment.flip(True, True), augment.affine(40.0, (0.8, 1.3)))
    crop = crops.random_crop(20)
    for key in jax.random.split(jax.random.key(0), 4):
        _, together = chain(key, image, channels.pack(each))
        alone = [chain(key, image, one)[1] for one in each]
        np.testing.assert_array_equal(together, channels.pack([np.asarray(one) for one in alone]))
    generators = [np.random.default_rng(5) for _ in range(4)]
    parts = [
        crop(rng, Example(image.astype(np.uint8), mask, "a"))[1]
        for rng, mask in zip(generators, (channels.pack(each), *each), strict=True)
    ]
    np.testing.assert_array_equal(parts[0], channels.pack(parts[1:]))
    small = [resize.nearest(mask, (7, 9)) for mask in (channels.pack(each), *each)]
    np.testing.assert_array_equal(small[0], channels.pack(small[1:]))


def interior_by_hand(labels):
    """Compares each pixel with all that are not its object's, and with those beyond the border."""
    padded = np.pad(labels, 1)
    marked = np.zeros(padded.shape, bool)
    for number in range(1, labels.max() + 1):
        own, others = np.argwhere(padded == number), np.argwhere(padded != number)
        if not len(own):
            continue
        distance = np.sqrt(((own[:, None] - others[None]) ** 2).sum(-1)).min(axis=1)
        inside = distance > max(DEPTH * distance.max(), LEAST)
        chosen = own[inside if inside.any() else distance == distance.max()]
        marked[tuple(chosen.T)] = True
    return marked[1:-1, 1:-1]


def test_the_interior_is_what_is_far_from_all_that_is_not_the_object():
    labels = discs((8, 8, 6), (8, 18, 4), (20, 3, 5), (27, 20, 1), shape=(30, 26))
    labels[labels == 3] = 0  # a number without an object
    np.testing.assert_array_equal(channels.interior(labels), interior_by_hand(labels))


def test_the_interiors_of_objects_that_touch_do_not_and_every_object_has_one():
    labels = discs((15, 15, 8), (15, 31, 8), (28, 23, 7), (3, 44, 2))
    labels[38, 3:9] = 5  # a thin one
    marked = channels.interior(labels)
    assert set(np.unique(labels[marked > 0])) == {1, 2, 3, 4, 5}
    for axis in (0, 1):
        one = np.where(marked, labels, 0)
        a, b = np.delete(one, 0, axis), np.delete(one, -1, axis)
        assert ((a == b) | (a == 0) | (b == 0)).all()


def test_a_network_of_one_channel_is_shown_the_examples_themselves():
    given = [example(discs((8, 8, 4)))]
    assert Channels().count == 1
    assert Channels().packed(given)[0] is given[0]


def test_an_example_whose_objects_are_not_known_has_those_of_its_components():
    labels = discs((10, 10, 5), (25, 30, 7))
    known, unknown = Channels(interior=True).packed([example(labels), example(labels, False)])
    np.testing.assert_array_equal(known.mask, unknown.mask)
    np.testing.assert_array_equal(known.mask & 1, labels > 0)
    np.testing.assert_array_equal(known.mask >> 1, channels.interior(labels))


def test_objects_that_no_mask_knows_are_refused():
    with pytest.raises(UserError, match=r"model\.objects='interior': no mask tells its objects"):
        Channels(interior=True).packed([example(discs((10, 10, 5)), False)])


def test_masks_of_several_annotators_are_refused_by_name():
    several = example(discs((10, 10, 5)))
    several = several._replace(annotations=np.stack([several.mask] * 2))
    with pytest.raises(UserError, match="a: has masks of several annotators"):
        Channels(interior=True).packed([several])
