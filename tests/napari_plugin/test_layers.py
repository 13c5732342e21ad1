"""Layers of a picture, and the plugin's manifest; napari is not needed."""

import ast
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from bright_model import SCENE, Brightness
from tiny_config import ROOT

import segdiff_jax
from segdiff_jax.certainty.prediction import Prediction
from segdiff_jax.certainty.quality import Quality
from segdiff_jax.errors import UserError
from segdiff_jax.napari_plugin import layers

PLUGIN = ROOT / "segdiff_jax" / "napari_plugin"
MANIFEST = yaml.safe_load((PLUGIN / "napari.yaml").read_text())


def test_a_picture_gives_labels_probability_and_uncertainty_of_its_size():
    given = layers.segment(SCENE, Brightness(), name="cells")
    assert [kind for _, _, kind in given] == ["image", "image", "labels"]
    names = [keywords["name"] for _, keywords, _ in given]
    assert names == ["cells uncertainty", "cells probability", "cells labels"]
    uncertainty, probability, labels = (data for data, _, _ in given)
    np.testing.assert_array_equal(labels > 0, SCENE > 127)
    assert labels.dtype == np.int32 and set(np.unique(labels)) == {0, 1, 2, 3}
    np.testing.assert_allclose(probability, SCENE / 255, atol=1e-6)
    assert uncertainty.shape == SCENE.shape and uncertainty.max() <= 0.5
    features = given[-1][1]["features"]
    np.testing.assert_array_equal(features["index"], [0, 1, 2, 3])
    areas = [np.count_nonzero(labels == number) for number in (1, 2, 3)]
    np.testing.assert_array_equal(features["area"], [np.nan, *areas])
    assert "confidence" not in features  # nothing is calibrated


def test_a_threshold_moves_without_another_pass():
    model = Brightness()
    found = layers.predict(SCENE, model)
    for threshold, count in ((0.1, 3), (0.7, 2), (0.5, 3)):
        moved = layers.at_threshold(found, threshold)
        assert layers.labels(moved)[0].max() == count
        assert layers.summary(moved) == f"{count} objects"
    assert model.passes == 1
    one = layers.segment(SCENE, model, threshold=0.7)[-1][0]
    np.testing.assert_array_equal(one > 0, SCENE > 0.7 * 255)


def test_of_a_stack_one_picture_is_taken_with_the_axes_of_the_stack():
    stack = np.stack([np.zeros_like(SCENE), SCENE, SCENE[::-1]])[None]
    np.testing.assert_array_equal(layers.plane(stack, False, (0, 1)), SCENE)
    found = layers.predict(layers.plane(stack, False, (0, 2)), Brightness())
    place = {"translate": (0, 2, 0, 0)}
    given = layers.layers(found, "stack", 2, place)
    assert [data.shape for data, _, _ in given] == [(1, 1, 30, 40)] * 3
    assert all(keywords["translate"] == (0, 2, 0, 0) for _, keywords, _ in given)
    np.testing.assert_array_equal(given[-1][0][0, 0] > 0, SCENE[::-1] > 127)


@pytest.mark.parametrize("dtype, opaque", [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_an_opaque_fourth_channel_is_left_out_and_a_transparent_one_refused(dtype, opaque):
    colours = np.zeros((5, 6, 4), dtype)
    colours[..., 3] = opaque
    assert layers.plane(colours, True).shape == (5, 6, 3)
    colours[0, 0, 3] = 0
    with pytest.raises(UserError, match="transparent: put it on a background"):
        layers.plane(colours, True)


@pytest.mark.parametrize(
    "image, words",
    [
        (np.zeros(7, np.uint8), r"the shape \(7,\): no picture"),
        (np.zeros((0, 4), np.uint8), r"the shape \(0, 4\): no picture"),
        (np.zeros((4, 4), np.int32), "int32 from 0 to 0; allowed are"),
        (np.full((4, 4), np.nan, np.float32), "NaN or infinity"),
        (np.zeros((4, 4), complex), "complex128"),
        (np.zeros((5, 10), np.uint8), "50 pixels, more than 40: crop it"),
    ],
)
def test_an_image_that_cannot_be_predicted_is_a_line(image, words):
    model = Brightness()
    model.config.reading.max_pixels = 40
    with pytest.raises(UserError, match=words) as caught:
        layers.segment(image, model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "quality, unlike, line",
    [
        (Quality(0.912, 0.85, 0.95), (), "3 objects; expected Dice 0.91 (0.85 to 0.95)"),
        (Quality(0.912, np.nan, np.nan), (), "3 objects; expected Dice 0.91"),
        (
            Quality(np.nan, np.nan, np.nan),
            ("brightness",),
            "3 objects; unlike the pictures this was calibrated on: brightness",
        ),
    ],
)
def test_the_line_says_what_is_known_of_a_prediction(quality, unlike, line):
    objects = SimpleNamespace(area=np.ones(3))
    answer = SimpleNamespace(quality=quality, unlike=unlike)
    assert layers.summary(SimpleNamespace(objects=objects, answer=answer)) == line


def test_a_calibrated_model_gives_the_confidence_of_each_object(monkeypatch):
    found = layers.predict(SCENE, Brightness())
    sure = found.objects._replace(confidence=np.array([0.9, 0.2, 0.8]))
    monkeypatch.setattr(Prediction, "objects", property(lambda _: sure))
    _, features = layers.labels(found)
    np.testing.assert_array_equal(features["confidence"], [np.nan, 0.9, 0.2, 0.8])


def test_the_samples_are_pictures_with_a_name():
    for make in (layers.fluorescence, layers.stained):
        ((data, keywords, kind),) = make()
        assert data.shape == (256, 256, 3) and data.dtype == np.uint8 and kind == "image"
        assert keywords["rgb"] and keywords["name"].startswith("nuclei_")


def test_the_manifest_is_found_and_each_command_names_what_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    entry = project["project"]["entry-points"]["napari.manifest"]
    assert entry == {"segdiff_jax": "segdiff_jax.napari_plugin:napari.yaml"}
    assert MANIFEST["name"] == project["project"]["name"]
    offered = MANIFEST["contributions"]
    commands = {one["id"]: one["python_name"] for one in offered["commands"]}
    for name in commands.values():
        module, _, attribute = name.partition(":")
        path = ROOT / f"{module.replace('.', '/')}.py"  # the widget's cannot be imported here
        tree = ast.parse(path.read_text())
        defined = {getattr(node, "name", "") for node in tree.body}
        assert attribute in defined, name
    used = [
        *offered["widgets"],
        *offered["sample_data"],
        *offered["menus"]["napari/layers/segment"],
    ]
    assert {one["command"] for one in used} == set(commands)


@pytest.mark.slow
def test_the_shipped_network_finds_the_nuclei_of_the_samples():
    """42 and 48 are marked in the set they are from."""
    model = segdiff_jax.load("nuclei")
    for make, marked in ((layers.fluorescence, 42), (layers.stained, 48)):
        ((pixels, _, _),) = make()
        labels = layers.segment(pixels, model, rgb=True)[-1][0]
        assert 0.7 * marked <= labels.max() <= 1.3 * marked, make
