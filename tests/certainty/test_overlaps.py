"""What a prediction of classes that overlap says: masks, objects and numbers of each class."""

import numpy as np
import pytest
from scipy import ndimage

from segdiff_jax.certainty import answers, calibration, objects, of_classes, quantities
from segdiff_jax.certainty.evidence import evidence
from segdiff_jax.certainty.prediction import Prediction
from segdiff_jax.data.channels import Channels
from segdiff_jax.data.classes import members, pack
from segdiff_jax.evaluation.labelling import label, label_each
from segdiff_jax.inference.predicted_rows import Further, PredictedRows

NAMES = ("organ", "lesion")
CHANNELS = Channels(NAMES, overlap=True)
SHAPE = 24, 32
IMAGE = np.zeros((*SHAPE, 3), np.uint8)
TRUE = np.zeros((2, *SHAPE), np.uint8)
TRUE[0, 2:20, 2:20] = TRUE[0, 4:12, 24:30] = 1
TRUE[1, 6:11, 6:11] = TRUE[1, 14:18, 16:23] = 1  # one within an organ, one at its border


def rows(p, samples=()):
    """A prediction of class probabilities [C, H, W] and samples of them."""
    p = np.asarray(p, np.float32)
    soft = np.asarray(samples, np.float32) if len(samples) else None
    further = Further(CHANNELS, p, p[None], soft)
    whole = None if soft is None else soft.max(axis=1)
    masks = None if whole is None else (whole > 0.5).astype(np.uint8)
    return PredictedRows(0, 0, p.max(axis=0)[None], p.max(axis=0), masks, True, whole, further)


def prediction(found, threshold=0.5):
    seen = evidence(IMAGE, found, False)
    mask, p = (found.probability > threshold).astype(np.uint8), found.probability
    more = found.generations, found.samples, seen, None, threshold, found.shares
    return Prediction(p, mask, p, *more)


def soft(seed=0):
    noise = np.random.default_rng(seed).random((2, *SHAPE)) * 0.3
    return np.where(TRUE, 1 - noise, noise)


@pytest.mark.parametrize("threshold", [0.5, 0.85])
def test_a_pixel_belongs_to_every_class_whose_probability_is_above_the_threshold(threshold):
    one = prediction(rows(soft()), 0.5).at(threshold)
    np.testing.assert_array_equal(one.classes, soft().astype(np.float32) > threshold)
    np.testing.assert_array_equal(one.classes.max(axis=0), one.mask)
    np.testing.assert_array_equal(one.class_probability, soft().astype(np.float32))
    assert (one.classes.sum(axis=0) > 1).any() and one.class_names == NAMES


def test_objects_are_found_in_each_class_and_may_lie_in_one_another():
    found = prediction(rows(soft())).objects
    assert found.classes == ("organ", "organ", "lesion", "lesion")
    assert found.labels.shape == (2, *SHAPE)
    np.testing.assert_array_equal(found.labels > 0, TRUE > 0)
    for number in range(1, 5):
        (planes, *_) = np.nonzero(found.labels == number)
        assert set(planes) == {(number - 1) // 2}
        own = found.labels == number
        assert found.area[number - 1] == own.sum()
        mean = soft()[own].mean()
        np.testing.assert_allclose(found.probability[number - 1], mean, rtol=1e-5)


def drawn():
    """Four samples: the second lesion is in one of them, and one has a lesion more."""
    samples = np.stack([TRUE] * 4).astype(float)
    samples[1:, 1, 14:18, 16:23] = 0
    samples[2, 1, 0:4, 26:31] = 1
    return samples


def test_agreement_and_doubtful_objects_are_of_the_class():
    found = prediction(rows(soft(), drawn())).objects
    np.testing.assert_allclose(found.held, [1, 1, 1, 0.25])
    (doubtful,) = found.doubtful
    assert doubtful.class_ == "lesion" and (doubtful.top, doubtful.left) == (0, 26)
    assert doubtful.held == 0.25 and doubtful.pixels.shape == (4, 5)


def test_objects_of_too_little_confidence_are_doubtful_ones_of_their_class():
    found = prediction(rows(soft(), drawn())).objects
    found = found._replace(confidence=np.array([0.9, 0.8, 0.7, 0.1]))
    kept = answers.sure(found, 0.5)
    assert kept.classes == ("organ", "organ", "lesion") and kept.labels.max() == 3
    first = kept.doubtful[0]
    assert first.class_ == "lesion" and first.confidence == 0.1 and first.pixels.sum() == 28
    assert (first.top, first.left) == (14, 16)
    np.testing.assert_array_equal(kept.labels[0], found.labels[0])
    assert not kept.labels[1, 14:18, 16:23].any()


def test_numbers_of_a_class_are_those_of_its_own_maps():
    seen = evidence(IMAGE, rows(soft(), drawn()), False)
    assert seen.overlap
    for k in (1, 2):
        alone = of_classes.alone(seen, k)
        np.testing.assert_array_equal(alone.probability, soft().astype(np.float32)[k - 1])
        np.testing.assert_array_equal(alone.decisions, drawn()[:, k - 1] > 0)
        np.testing.assert_array_equal(alone.samples, alone.decisions)
        np.testing.assert_array_equal(alone.passes[0] > 0, TRUE[k - 1] > 0)
        assert quantities.measure(alone)["area"].centres["mask"] == TRUE[k - 1].sum()
    counts = quantities.measure(seen)["count"].centres
    assert counts["mask"] == 4 and counts["decisions"] == (4 + 3 + 4 + 3) / 4
    of = prediction(rows(soft())).of_classes
    assert of["lesion"].count[0.8].value == 2 and of["lesion"].area[0.8].value == TRUE[1].sum()


def test_an_annotated_picture_is_observed_by_class():
    """Against components of each class, counted by another library."""
    seen, bits = evidence(IMAGE, rows(soft()), False), pack([*TRUE])
    observed = calibration.observe("a", seen, TRUE.max(axis=0), None, bits)
    assert observed.right.tolist() == [True] * 4
    assert observed.truth["count"] == sum(ndimage.label(one)[1] for one in TRUE) == 4
    assert observed.scored.true == observed.scored.found == 4 and observed.scored.hits[-1] == 4
    for k, name in enumerate(NAMES):
        truth = {"area": float(TRUE[k].sum()), "count": 2.0}
        assert observed.classes[name].truth == truth
    fewer = TRUE.copy()
    fewer[1, 6:11, 6:11] = 0  # the lesion within an organ, which is foreground all the same
    observed = calibration.observe("a", seen, TRUE.max(axis=0), None, pack([*fewer]))
    assert observed.right.tolist() == [True, True, False, True]


def test_labels_of_classes_go_on_from_class_to_class():
    found = label_each(TRUE)
    np.testing.assert_array_equal(found[0], label(TRUE[0]))
    np.testing.assert_array_equal(found[1], np.where(TRUE[1], label(TRUE[1]) + 2, 0))
    assert label_each(TRUE * [[[0]], [[1]]])[1].max() == 2
    listed = objects.find(evidence(IMAGE, rows(soft()), False), TRUE > 0)
    np.testing.assert_array_equal(listed.labels, found)
    assert listed.classes.tolist() == [1, 1, 2, 2]


def test_maps_come_at_the_size_that_is_asked_for():
    seen = evidence(IMAGE, rows(soft(), drawn()), False, (12, 16))
    assert seen.classes.shares.shape == (2, 12, 16) and seen.half.shape == (2, 12, 16)
    np.testing.assert_array_equal(seen.half.any(axis=0), seen.probability > 0.5)
    assert members(seen.classes.decisions, 2).shape == (2, 4, 12, 16)
