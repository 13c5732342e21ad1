"""What a prediction of classes says: shares, maps of each sample, objects and their number."""

import json
from dataclasses import replace

import numpy as np
import pytest

from segdiff_jax.certainty import calibration, of_classes, quantities, store
from segdiff_jax.certainty.evidence import evidence
from segdiff_jax.certainty.prediction import Prediction
from segdiff_jax.data.channels import Channels
from segdiff_jax.evaluation.labelling import label
from segdiff_jax.inference.predicted_rows import Further, PredictedRows

RANDOM = np.random.default_rng(5)
NAMES = ("a", "b", "c")
SHAPE = 20, 30
IMAGE = np.zeros((*SHAPE, 3), np.uint8)


def rows(interior=False, samples=4, generations=2):
    count = len(NAMES) + interior
    p, g = RANDOM.random((count, *SHAPE)), RANDOM.random((generations, count, *SHAPE))
    soft = RANDOM.random((samples, count, *SHAPE))
    further = Further(Channels(NAMES, interior), *(x.astype(np.float32) for x in (p, g, soft)))
    of_mask = RANDOM.random((generations, *SHAPE)).astype(np.float32)
    drawn = RANDOM.random((samples, *SHAPE)).astype(np.float32)
    masks = (drawn > 0.5).astype(np.uint8)
    return PredictedRows(0, 0, of_mask, of_mask.mean(axis=0), masks, True, drawn, further)


@pytest.mark.parametrize("interior", [False, True])
def test_classes_are_the_channels_between_foreground_and_interior(interior):
    found = rows(interior)
    seen = evidence(IMAGE, found, False).classes
    assert seen.names == NAMES
    channels = found.further.probability[:3]
    np.testing.assert_allclose(seen.shares, channels / channels.sum(axis=0), rtol=8 * 2**-24)
    for maps, of in (
        (seen.passes, found.further.generations),
        (seen.decisions, found.further.soft),
    ):
        np.testing.assert_array_equal(maps, 1 + of[:, :3].argmax(axis=1))
    np.testing.assert_array_equal(found.shares, seen.shares)
    assert (found.interior is not None) == interior


def test_without_classes_there_are_none():
    found = rows()._replace(further=None)
    assert evidence(IMAGE, found, False).classes is None and found.shares is None


def test_maps_come_at_the_size_that_is_asked_for():
    seen = evidence(IMAGE, rows(), False, (10, 15)).classes
    assert seen.shares.shape == (3, 10, 15) and seen.decisions.shape == (4, 10, 15)


def prediction(found, threshold=0.5):
    seen = evidence(IMAGE, found, False)
    mask = (found.probability > threshold).astype(np.uint8)
    return Prediction(found.probability, mask, mask, found.generations, found.samples, seen, None)


def test_a_prediction_has_a_class_map_and_probabilities_that_add_up():
    one = prediction(rows())
    assert one.class_names == NAMES
    np.testing.assert_array_equal(one.classes > 0, one.mask > 0)
    assert one.classes.max() == 3 and one.class_probability.shape == (3, *SHAPE)
    total = one.class_probability.sum(axis=0)
    np.testing.assert_allclose(total, one.probability, atol=4 * 2**-24)  # of 3 terms up to 1
    best = 1 + one.class_probability.argmax(axis=0)
    np.testing.assert_array_equal(np.where(one.mask > 0, best, 0), one.classes)


def touching():
    """Two squares that touch, of classes b and c; every sample is the same."""
    found = rows(samples=3)
    mask = np.zeros(SHAPE, np.float32)
    mask[4:16, 4:26] = 1
    further = np.zeros((3, *SHAPE), np.float32)
    further[1, :, :15], further[2, :, 15:] = 0.8, 0.6
    three = np.stack([further] * 3)
    return found._replace(
        generations=mask[None],
        probability=mask,
        samples=np.stack([mask.astype(np.uint8)] * 3),
        soft=np.stack([mask] * 3),
        further=Further(Channels(NAMES), further, three[:1], three),
    )


def test_objects_of_two_classes_that_touch_are_two_also_in_every_sample():
    one = prediction(touching())
    objects = one.objects
    np.testing.assert_array_equal(objects.labels, label(one.mask, classes=one.classes))
    assert objects.classes == ("b", "c") and objects.held.tolist() == [1, 1]
    assert objects.doubtful == () and objects.area.tolist() == [132, 132]


def test_the_number_of_objects_counts_those_of_each_class():
    measured = quantities.measure(evidence(IMAGE, touching(), False))["count"]
    assert measured.centres["mask"] == measured.centres["decisions"] == 2
    alone = touching()._replace(further=None)
    assert quantities.measure(evidence(IMAGE, alone, False))["count"].centres["mask"] == 1


def test_the_evidence_of_one_class_is_that_of_its_pixels_alone():
    found = evidence(IMAGE, rows(), False)
    kinds = found.classes.of(np.ones(SHAPE, bool))
    for k in (1, 2, 3):
        of = of_classes.alone(found, k)
        np.testing.assert_array_equal(of.probability, np.where(kinds == k, found.probability, 0))
        for masks, maps in ((of.samples, found.samples), (of.decisions, found.decisions)):
            np.testing.assert_array_equal(masks, maps & (found.classes.decisions == k))
        areas = quantities.measure(of)["area"].centres
        assert areas["mask"] == np.count_nonzero((kinds == k) & (found.probability > 0.5))


def test_area_and_count_of_each_class_are_answered_without_a_calibration_too():
    found = prediction(touching()).of_classes
    values = {name: (of.area[0.8].value, of.count[0.8].value) for name, of in found.items()}
    assert values == {"a": (0, 0), "b": (132, 1), "c": (132, 1)}
    assert np.isnan(found["b"].area[0.8].low)
    assert prediction(touching()._replace(further=None)).of_classes == {}


def test_intervals_of_each_class_are_those_of_a_fit_on_it_alone_and_are_stored():
    """Of 24 random pictures, fitted as `quantities` fits a set of masks of that class."""
    observed, alone = [], []
    for i in range(24):
        found = rows()
        seen = evidence(IMAGE, found, False)
        true = RANDOM.integers(0, 4, SHAPE).astype(np.uint8)
        observed.append(calibration.learn(str(i), seen, true > 0, classes=true))
        of = of_classes.alone(seen, 2)
        alone.append((quantities.measure(of)["area"], float(np.count_nonzero(true == 2))))
    fitted = calibration.fit(observed)
    assert set(fitted.classes) == set(NAMES)
    expected = quantities.fit(*(list(side) for side in zip(*alone, strict=True)), False)
    assert fitted.classes["b"]["area"] == expected
    content = json.loads(json.dumps(store.to_json(fitted)))
    assert store.from_json(content).classes == fitted.classes
    one = prediction(rows())
    answers = replace(one, calibration=fitted).of_classes["b"].area
    assert answers == expected(quantities.measure(of_classes.alone(one.evidence, 2))["area"])


def test_a_calibration_without_classes_is_stored_as_before():
    seen = [evidence(IMAGE, rows()._replace(further=None), False) for _ in range(3)]
    observed = [calibration.observe(str(i), of, of.probability > 0.6) for i, of in enumerate(seen)]
    assert "classes" not in store.to_json(calibration.fit(observed))
