"""Sizes of objects: discs whose diameter is known."""

import numpy as np
import pytest

from segdiff_jax.data.example import Example
from segdiff_jax.evaluation import object_sizes
from segdiff_jax.evaluation.object_sizes import diameters, factor, pixel_size, typical


def discs(diameter, count):
    """Returns labels of discs in a row."""
    step = int(diameter) + 3
    y, x = np.mgrid[:step, : step * count]
    inside = (y - step / 2) ** 2 + (x % step - step / 2) ** 2 <= diameter**2 / 4
    return np.where(inside, 1 + x // step, 0)


def example(labels, known=True):
    image = np.zeros((*labels.shape, 3), np.uint8)
    return Example(image, (labels > 0).astype(np.uint8), "x", objects=labels if known else None)


def test_the_diameter_of_a_disc_is_found_from_its_area():
    for diameter in (12, 30, 61):
        # a disc has its area up to the pixels of its border: within a tenth of a pixel here
        assert diameters(discs(diameter, 2)) == pytest.approx([diameter] * 2, rel=0.02)


def test_the_typical_object_is_the_median_of_all_objects_by_labels_or_components():
    small, large = discs(12, 9), discs(60, 2)
    found = typical([example(small), example(large, known=False), example(small * 0)])
    assert found.diameter == pytest.approx(12, rel=0.02) and found.count == 11 / 3
    halves = np.where(large > 0, 1 + np.arange(large.shape[1]) % 2, 0) * 70_000
    assert typical([example(halves)]).count == 2
    assert typical([]) == typical([example(small * 0)]) == (0.0, 0.0)


def test_at_most_some_hundreds_of_examples_are_measured(monkeypatch):
    monkeypatch.setattr(object_sizes, "MOST", 3)
    asked = [example(discs(12, 1 + i)) for i in range(8)]
    assert typical(asked).count == pytest.approx((1 + 4 + 7) / 3)


def test_the_pixel_of_the_training_is_the_median_where_half_of_the_images_state_one(caplog):
    def of(*sizes):
        return pixel_size([example(discs(12, 1))._replace(pixel_size=one) for one in sizes])

    assert of() == of(0, 0) == of(0.5, 0, 0) == 0
    assert of(0.25, 0.25, 0.26, 0) == of(0.25, 0) == 0.25 and not caplog.records
    assert of(1 / 3, 1 / 3) == 0.333333
    assert of(0.25, 0.25, 0.5) == 0.25
    assert caplog.messages == [
        "the pixels of the images to train on measure 0.25 to 0.5 um, half of them at most 0.25"
    ]


def test_the_factor_brings_objects_to_the_size_of_the_training_if_they_are_far_from_it():
    assert factor(discs(60, 5), 20) == pytest.approx(1 / 3, rel=0.02)
    assert factor(discs(12, 5), 36) == pytest.approx(3, rel=0.02)
    for labels, trained in ((discs(30, 5), 20), (discs(60, 4), 20), (discs(60, 5), 0)):
        assert factor(labels, trained) is None
