"""Classes of predicted images: their map, the class of each object, outlines in their colours."""

import csv
import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from stand_in import StandIn, run_of

from segdiff_jax import predict
from segdiff_jax.certainty import calibration, conformal
from segdiff_jax.certainty.quantities import IntervalModel
from segdiff_jax.cli.predict_args import parse
from segdiff_jax.errors import UserError
from segdiff_jax.evaluation.class_colours import COLOURS, PALETTE
from segdiff_jax.prediction import certainty_columns

ALL = "--outputs=labels,objects,geojson,rois"
GREEN, BLUE = (255, 255, 0), (255, 0, 255)  # of two of three channels: a probability of 2/3
NAMES = ("leaf", "sky")
PIXELS = (("leaf", "317"), ("sky", "323"))  # of the picture


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

    def call(*argv, fitted=None, **has):
        given = [f"--workdir={run}", f"--input={folder}", f"--output={tmp_path / 'out'}"]
        model = StandIn(samples=3, classes=NAMES, **has)
        model.calibration = fitted
        predict.predict(parse([*given, *argv]), model)
        return tmp_path / "out", model.asked

    return call


def lines_of(output, name, table="objects.csv"):
    with open(output / table, newline="") as file:
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


def fit():
    """A calibration of one class alone, whose 80 % intervals are +- 20 pixels and +- 1 object."""
    none = dict.fromkeys(calibration.Calibration._fields) | {"least": 0.0}
    width = dict(zip(conformal.LEVELS, (10.0, 20.0, None), strict=True))
    models = {
        "area": IntervalModel("mask", "constant", width, False, 50),
        "count": IntervalModel("mask", "constant", dict.fromkeys(width, 1.0), True, 50),
    }
    classes = {"leaf": models, "sky": dict.fromkeys(models)}
    return calibration.Calibration(
        **none | {"n": 50, "fingerprint": "", "source": "", "classes": classes}
    )


def test_how_much_there_is_of_each_class_has_an_interval_where_it_is_calibrated(call):
    output, _ = call()
    empty = dict.fromkeys(("area", "area_low", "area_high", "objects"), "")
    empty |= dict.fromkeys(("objects_low", "objects_high"), "")
    plain = [{"picture": "a.png", "class": name, "pixels": n} for name, n in PIXELS]
    assert lines_of(output, "a.png", "classes.csv") == [one | empty for one in plain]
    output, _ = call("--overwrite", fitted=fit())
    leaf, sky = lines_of(output, "a.png", "classes.csv")
    assert sky == plain[1] | empty
    area = {"area": "317", "area_low": "297", "area_high": "337"}
    assert leaf == plain[0] | area | {"objects": "1", "objects_low": "0", "objects_high": "2"}
    assert len(lines_of(output, "b.tif", "classes.csv")) == 2


def test_an_image_too_large_for_its_certainty_has_the_pixels_of_its_classes(call, monkeypatch):
    monkeypatch.setattr(certainty_columns, "MAX_VALUES", 1)
    lines = lines_of(call(fitted=fit())[0], "a.png", "classes.csv")
    assert [(line["class"], line["pixels"]) for line in lines] == [*PIXELS]
    assert {line["area_low"] for line in lines} == {""}


@pytest.mark.parametrize("lost", ["whole", "line"])
def test_lines_of_classes_that_are_lost_come_again_and_none_twice(call, lost):
    output, _ = call()
    before = (output / "classes.csv").read_bytes()
    assert call()[1] == [] and (output / "classes.csv").read_bytes() == before
    kept = before.splitlines(keepends=True)[:3] if lost == "line" else []
    (output / "classes.csv").write_bytes(b"".join(kept))
    if not kept:
        (output / "classes.csv").unlink()
    assert call()[1] == ([1] if kept else [0, 1])
    assert (output / "classes.csv").read_bytes() == before


def test_a_table_of_classes_of_another_program_is_not_touched(call):
    output, _ = call()
    (output / "classes.csv").write_text("mine\n1\n")
    with pytest.raises(UserError, match=r"classes.csv: is not in the format this program writes"):
        call()
    assert (output / "classes.csv").read_text() == "mine\n1\n"


def test_other_classes_are_other_settings(call):
    output, _ = call()
    settings = json.loads((output / "settings.json").read_text())
    assert settings["classes"] == list(NAMES)
