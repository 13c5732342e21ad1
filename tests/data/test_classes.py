"""Classes: the text that names them, shares of the channels, decisions of pixels and objects."""

import numpy as np
import pytest

from segdiff_jax.config.allowed import CLASS_VALUES
from segdiff_jax.data import classes
from segdiff_jax.data.channels import Channels
from segdiff_jax.data.example import Example
from segdiff_jax.errors import UserError

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize(
    ("text", "names", "numbers"),
    [
        ("", (), {0: 0}),
        ("tumour=1,stroma=2", ("tumour", "stroma"), {0: 0, 1: 1, 2: 2}),
        ("b=7+9,a=1", ("b", "a"), {0: 0, 7: 1, 9: 1, 1: 2}),
        ("sky=0,sea=1", ("sky", "sea"), {0: 1, 1: 2}),
        ("a=1,background=255+3", ("a",), {0: 0, 1: 1, 255: 0, 3: 0}),
    ],
)
def test_a_text_names_classes_and_their_values(text, names, numbers):
    assert CLASS_VALUES.accepts(text)
    assert classes.parse(text)[:2] == (names, numbers) and not classes.parse(text).sources


@pytest.mark.parametrize(
    "text",
    ["a", "a=", "=1", "a=-1", "a=1,a=2", "a=1,b=1", "a=1+1", "a=1,", "background=1", "-a=1"],
)
def test_a_text_that_names_a_class_or_a_value_twice_or_none_is_no_text_of_classes(text):
    assert not CLASS_VALUES.accepts(text)


def test_fourteen_classes_are_the_most():
    most = [f"c{i}={i + 1}" for i in range(14)]
    assert CLASS_VALUES.accepts(",".join(most))
    assert not CLASS_VALUES.accepts(",".join([*most, "more=99"]))
    assert Channels(classes.parse(",".join(most)).names, True).count == 16


def test_shares_add_up_to_one_and_keep_the_ratios():
    values = RANDOM.random((3, 5, 6)).astype(np.float32)
    found = classes.shares(values)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=8 * 2**-24)  # 3 terms
    np.testing.assert_allclose(found * values.sum(axis=0), values, rtol=8 * 2**-24)
    np.testing.assert_allclose(classes.shares(np.zeros((4, 2))), 0.25)
    assert np.isnan(classes.shares(np.array([[np.nan], [1.0]]))).all()


def test_a_pixel_of_the_mask_has_the_class_of_the_highest_value():
    values, mask = RANDOM.random((3, 9, 8)), RANDOM.random((9, 8)) > 0.4
    found = classes.decided(mask, values)
    assert found.dtype == np.uint8
    for y, x in np.ndindex(mask.shape):
        best = max(range(3), key=lambda k: values[k, y, x])
        assert found[y, x] == (best + 1 if mask[y, x] else 0)
    assert classes.decided(np.ones((1, 1)), np.ones((2, 1, 1))) == 1


def test_an_object_has_the_class_of_the_highest_sum_over_its_pixels():
    labels, values = RANDOM.integers(0, 5, (12, 10)), RANDOM.random((3, 12, 10))
    expected = [
        1 + int(np.argmax([values[k][labels == number].sum() for k in range(3)]))
        for number in range(1, 5)
    ]
    assert classes.of_objects(labels, values).tolist() == expected


def test_the_bits_of_a_mask_are_foreground_classes_and_interior():
    kinds = np.zeros((9, 12), np.uint8)
    kinds[1:8, 1:6], kinds[1:8, 6:11] = 1, 2
    one = Example(np.zeros((9, 12, 3), np.uint8), (kinds > 0).astype(np.uint8), "a")
    one = one._replace(classes=kinds, objects=kinds)
    (packed,) = Channels(("a", "b"), True).packed([one])
    assert packed.mask.dtype == np.uint8
    bits = [packed.mask >> k & 1 for k in range(4)]
    np.testing.assert_array_equal(bits[0], kinds > 0)
    np.testing.assert_array_equal(bits[1], kinds == 1)
    np.testing.assert_array_equal(bits[2], kinds == 2)
    assert set(np.unique(kinds[bits[3] > 0])) == {1, 2}
    with pytest.raises(UserError, match="a: its mask has no classes"):
        Channels(("a", "b")).packed([one._replace(classes=None)])


def test_each_class_that_overlaps_is_decided_by_itself_and_their_union_is_the_mask():
    values = RANDOM.random((3, 9, 8)).astype(np.float32)
    mask = values.max(axis=0) > 0.6
    found = classes.decided_each(mask, values, 0.6)
    np.testing.assert_array_equal(found, values > 0.6)
    np.testing.assert_array_equal(found.any(axis=0), mask)
    assert (found.sum(axis=0) > 1).any()
    rounded = classes.decided_each(mask, values - np.float32(0.1), 0.6)  # some have none above
    np.testing.assert_array_equal(rounded.any(axis=0), mask)
    for y, x in np.ndindex(mask.shape):
        best = max(range(3), key=lambda k: values[k, y, x])
        above = values[:, y, x] - np.float32(0.1) > 0.6
        expected = above if above.any() else np.arange(3) == best
        np.testing.assert_array_equal(rounded[:, y, x], expected & mask[y, x])
    smaller = mask & (RANDOM.random((9, 8)) > 0.5)
    np.testing.assert_array_equal(
        classes.decided_each(smaller, values, 0.6), (values > 0.6) & smaller
    )


def test_bits_of_a_class_map_and_its_numbers_give_the_pixels_of_a_class():
    masks = RANDOM.random((11, 5, 6)) > 0.5
    bits = classes.pack([*masks])
    np.testing.assert_array_equal(classes.members(bits, 11), masks)
    for k in range(1, 12):
        np.testing.assert_array_equal(classes.member(bits, k, True), masks[k - 1])
        np.testing.assert_array_equal(classes.member(bits, k, False), bits == k)


def test_an_example_of_overlapping_classes_has_a_bit_of_each_and_of_their_union():
    masks = RANDOM.random((2, 5, 6)) > 0.5
    image, mask = np.zeros((5, 6, 3), np.uint8), masks.any(axis=0).astype(np.uint8)
    channels = Channels(("organ", "lesion"), overlap=True)
    assert (
        channels.count == 3 and str(channels) == "masks and the overlapping classes organ, lesion"
    )
    (one,) = channels.packed([Example(image, mask, "a", classes=classes.pack([*masks]))])
    np.testing.assert_array_equal(classes.members(one.mask, 3), np.stack([mask > 0, *masks]))


def test_the_foreground_of_overlapping_classes_is_the_highest_of_them():
    maps = RANDOM.random((4, 3, 5, 6))
    np.testing.assert_array_equal(Channels(("a", "b")).foreground(maps), maps[:, 0])
    found = Channels(("a", "b"), overlap=True).foreground(maps)
    np.testing.assert_array_equal(found, np.maximum(maps[:, 1], maps[:, 2]))
