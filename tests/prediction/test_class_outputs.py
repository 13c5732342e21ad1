"""Classes of predicted images: their map, the class of each object, outlines in their colours."""

import csv
import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from stand_in import StandIn, run_of

from segdiff_jax import predict
from segdiff_jax.cli.predict_args import parse
from segdiff_jax.evaluation.class_colours import COLOURS, PALETTE
from segdiff_jax.prediction import certainty_columns

ALL = "--outputs=labels,objects,geojson,rois"
GREEN, BLUE = (255, 255, 0), (255, 0, 255)  # of two of three channels: a probability of 2/3
NAMES = ("leaf", "sky")


def picture():
    """Two objects that touch, one of each class, and a scratch of the other class on one."""
    image = np.zeros((30, 40, 3), np.uint8)
    image[5:25, 4:20], image[5:25, 20:36] = GREEN, BLUE
    image[10, 8:11] = BLUE
    return image


@pytest.fixture
def call(tmp_path):
    """call("--flag"...) predicts a folder; returns the output and the numbers predicted."""
    run, folder = run_of(tmp_path), tmp_path / "images"
    folder.mkdir()
    Image.fromarray(picture()).save(folder / "a.png")
    tifffile.imwrite(folder / "b.tif", picture()[:, ::-1], photometric="rgb")

    def call(*argv, **has):
        given = [f"--workdir={run}", f"--input={folder}", f"--output={tmp_path / 'out'}"]
        model = StandIn(samples=3, classes=NAMES, **has)
        predict.predict(parse([*given, *argv]), model)
        return tmp_path / "out", model.asked

    return call


def lines_of(output, name):
    with open(output / "objects.csv", newline="") as file:
        return [line for line in csv.DictReader(file) if line["picture"] == name]


def test_the_class_map_holds_numbers_and_their_colours(call):
    output, _ = call()
    expected = np.zeros((30, 40), np.uint8)
    expected[picture()[..., 1] > 0], expected[picture()[..., 2] > 0] = 1, 2
    with Image.open(output / "classes/a.png") as found:
        assert found.mode == "P"
        np.testing.assert_array_equal(np.asarray(found), expected)
        np.testing.assert_array_equal(np.asarray(found.convert("RGB")), PALETTE[expected])
    with tifffile.TiffFile(output / "classes/b.tif") as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), expected[:, ::-1])
        np.testing.assert_array_equal(page.colormap[:, :3].T, PALETTE[:3] * np.uint16(257))
    mask = np.asarray(Image.open(output / "mask/a.png"))
    np.testing.assert_array_equal(mask > 0, expected > 0)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("interior", [False, True])
def test_every_object_has_the_class_of_most_of_its_probability(call, monkeypatch, large, interior):
    """Also those of an image whose maps are too large to be held together."""
    if large:
        monkeypatch.setattr(certainty_columns, "MAX_VALUES", 1)
    output, _ = call(ALL, interior=interior)
    labels = tifffile.imread(output / "labels/a.tif")
    if interior:  # blue, which divides what the classes do not
        kinds = [NAMES[int(np.median(picture()[labels == n, 2]) > 0)] for n in (1, 2)]
        assert [line["class"] for line in lines_of(output, "a.png")][:2] == kinds
        return
    expected = np.zeros_like(labels)
    expected[5:25, 4:20], expected[5:25, 20:36] = 1, 2
    np.testing.assert_array_equal(labels, expected)
    lines = lines_of(output, "a.png")
    assert [line["class"] for line in lines] == list(NAMES)
    assert [int(line["area"]) for line in lines] == [320, 320]
    features = json.loads((output / "geojson/a.geojson").read_text())["features"]
    kinds = [feature["properties"]["classification"] for feature in features]
    assert kinds == [
        {"name": name, "color": list(colour)} for name, colour in zip(NAMES, COLOURS, strict=False)
    ]
    assert [line["agreement"] for line in lines] == ["", ""] if large else ["0.6667"] * 2


def test_outlines_have_the_colour_of_their_class(call):
    output, _ = call()
    drawn = np.asarray(Image.open(output / "overlay/a.png"))
    assert tuple(drawn[15, 4]) == COLOURS[0] and tuple(drawn[15, 35]) == COLOURS[1]


def test_an_output_continues_and_misses_a_class_map(call):
    output, asked = call()
    assert asked == [0, 1] and call()[1] == []
    (output / "classes/b.tif").unlink()
    assert call()[1] == [1] and (output / "classes/b.tif").exists()


def test_other_classes_are_other_settings(call):
    output, _ = call()
    settings = json.loads((output / "settings.json").read_text())
    assert settings["classes"] == list(NAMES)
