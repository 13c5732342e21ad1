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
    assert classes.parse(text) == (names, numbers)


@pytest.mark.parametrize(
    "text",
    ["a", "a=", "=1", "a=x", "a=-1", "a=1,a=2", "a=1,b=1", "a=1+1", "a=1,", "background=1", "-a=1"],
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
