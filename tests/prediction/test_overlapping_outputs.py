"""Outputs of classes that overlap: a mask, labels and outlines of each, lines of its objects."""

import csv
import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from stand_in import StandIn, run_of

from segdiff_jax import predict
from segdiff_jax.cli.predict_args import parse
from segdiff_jax.errors import UserError
from segdiff_jax.evaluation.class_colours import COLOURS
from segdiff_jax.prediction import certainty_columns

NAMES = ("organ", "lesion")
ALL = "--outputs=labels,objects,geojson,rois"
MASKS = np.zeros((2, 30, 40), bool)
MASKS[0, 4:26, 3:20] = MASKS[0, 4:14, 25:37] = True
MASKS[1, 9:15, 8:14] = MASKS[1, 18:22, 16:24] = True  # within, and over the border of, an organ


def picture():
    image = np.zeros((30, 40, 3), np.uint8)
    image[..., 1], image[..., 2] = np.where(MASKS, 230, 20)
    return image


@pytest.fixture
def call(tmp_path):
    """call("--flag"...) predicts a folder; returns the output and the numbers predicted."""
    run, folder = run_of(tmp_path), tmp_path / "images"
    folder.mkdir()
    Image.fromarray(picture()).save(folder / "a.png")
    tifffile.imwrite(folder / "b.tif", picture(), photometric="rgb")

    def call(*argv, **has):
        given = [f"--workdir={run}", f"--input={folder}", f"--output={tmp_path / 'out'}"]
        model = StandIn(samples=3, classes=NAMES, overlap=True, **has)
        predict.predict(parse([*given, *argv]), model)
        return tmp_path / "out", model.asked

    return call


def lines_of(output, name, table="objects.csv"):
    with open(output / table, newline="") as file:
        return [line for line in csv.DictReader(file) if line["picture"] == name]


def test_each_class_has_a_mask_and_their_union_is_the_mask(call):
    output, _ = call()
    for name in ("a.png", "b.tif"):
        for kind, expected in zip(NAMES, MASKS, strict=True):
            found = np.asarray(Image.open(output / "classes" / kind / name))
            np.testing.assert_array_equal(found, expected * np.uint8(255))
        found = np.asarray(Image.open(output / "mask" / name))
        np.testing.assert_array_equal(found > 0, MASKS.any(axis=0))
    pixels = [
        (line["class"], int(line["pixels"])) for line in lines_of(output, "a.png", "classes.csv")
    ]
    assert pixels == [(kind, mask.sum()) for kind, mask in zip(NAMES, MASKS, strict=True)]
    settings = json.loads((output / "settings.json").read_text())
    assert settings["classes"] == list(NAMES) and settings["overlap"] is True


@pytest.mark.parametrize("large", [False, True])
def test_objects_of_each_class_have_numbers_of_their_own(call, monkeypatch, large):
    """Also those of an image whose maps are too large to be held together."""
    if large:
        monkeypatch.setattr(certainty_columns, "MAX_VALUES", 1)
    output, _ = call(ALL)
    labels = tifffile.imread(output / "labels/a.tif")
    assert labels.shape == (2, 30, 40) and labels.dtype == np.uint16
    np.testing.assert_array_equal(labels > 0, MASKS)
    lines = lines_of(output, "a.png")
    assert [line["class"] for line in lines] == ["organ", "organ", "lesion", "lesion"]
    for line in lines:
        plane, rows, columns = np.nonzero(labels == int(line["label"]))
        assert set(plane) == {NAMES.index(line["class"])}
        assert int(line["area"]) == len(rows)
        place = columns.mean() + 0.5, rows.mean() + 0.5
        np.testing.assert_allclose(
            [float(line["centroid_x"]), float(line["centroid_y"])], place, atol=5e-4
        )
        np.testing.assert_allclose(float(line["probability"]), 230 / 255, atol=2e-5)
        assert line["agreement"] == ("" if large else "1")
    features = json.loads((output / "geojson/a.geojson").read_text())["features"]
    kinds = [one["properties"]["classification"] for one in features]
    of = dict(zip(NAMES, map(list, COLOURS), strict=False))
    assert kinds == [{"name": line["class"], "color": of[line["class"]]} for line in lines]


def test_outlines_of_each_class_have_its_colour_also_within_another(call):
    output, _ = call()
    drawn = np.asarray(Image.open(output / "overlay/a.png"))
    assert tuple(drawn[10, 3]) == COLOURS[0] and tuple(drawn[10, 8]) == COLOURS[1]
    assert tuple(drawn[20, 23]) == COLOURS[1]


def test_an_output_continues_and_misses_the_mask_of_a_class(call):
    output, asked = call(ALL)
    assert asked == [0, 1] and call(ALL)[1] == []
    (output / "classes/lesion/b.tif").unlink()
    assert call(ALL)[1] == [1] and (output / "classes/lesion/b.tif").exists()
    (output / "labels/a.tif").unlink()
    assert call(ALL)[1] == [0]


def test_another_threshold_is_of_each_class(call):
    output, _ = call(rows=4)
    before = np.asarray(Image.open(output / "classes/lesion/a.png")) > 0
    model_of = call("--overwrite", rows=11)[0]
    np.testing.assert_array_equal(
        np.asarray(Image.open(model_of / "classes/lesion/a.png")) > 0, before
    )


def test_masks_of_classes_are_not_read_where_they_would_be_written(call):
    output, _ = call()
    lesions = output / "classes" / "lesion"
    with pytest.raises(UserError, match="holds the input, which it would overwrite"):
        parse([f"--workdir={output.parent / 'run'}", f"--input={lesions}", f"--output={output}"])
