"""Objects of predicted images: labels, lines, polygons for other programs, and continuing."""

import csv
import io
import json
import logging
import math
import zipfile

import numpy as np
import pytest
import tifffile
from outline_pixels import filled
from PIL import Image
from roifile import ImagejRoi
from scipy import ndimage
from stand_in import StandIn, run_of

from segdiff_jax import predict
from segdiff_jax.certainty.answers import Objects
from segdiff_jax.cli.predict_args import parse
from segdiff_jax.errors import UserError
from segdiff_jax.prediction import certainty_columns, object_outputs
from segdiff_jax.prediction.object_files import Outlined, geojson, rois
from segdiff_jax.prediction.object_outputs import measured
from segdiff_jax.prediction.overlay import TINT

ALL = "--outputs=labels,objects,geojson,rois"
RNG = np.random.default_rng(8)


def picture():
    """Two objects and a speck: a square in all colours, a frame that is not blue."""
    image = np.zeros((40, 50, 3), np.uint8)
    image[4:16, 5:15] = 255
    image[20:30, 20:36, :2] = 255
    image[23:26, 23:27] = 0
    image[35, 40:42] = 255
    return image


@pytest.fixture
def folder(tmp_path):
    directory = tmp_path / "images"
    directory.mkdir()
    Image.fromarray(picture()).save(directory / "a.png")
    noise = np.zeros((30, 31, 3), np.uint8)
    noise += (ndimage.uniform_filter(RNG.random((30, 31)), 3) > 0.5)[..., None] * np.uint8(255)
    Image.fromarray(noise).save(directory / "b.tif")
    Image.new("RGB", (20, 10)).save(directory / "c.png")
    return directory


@pytest.fixture
def call(tmp_path, folder):
    """call("--flag"...) predicts the folder; returns the output and the numbers predicted."""
    run = run_of(tmp_path)

    def call(*argv, samples=3, **has):
        given = [f"--workdir={run}", f"--input={folder}", f"--output={tmp_path / 'out'}"]
        model = StandIn(samples=samples, **has)
        predict.predict(parse([*given, *argv]), model)
        return tmp_path / "out", model.asked

    return call


def lines_of(output):
    with open(output / "objects.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_labels_are_the_components_of_the_mask_however_it_was_cut(call):
    output, _ = call(ALL)  # the stand-in gives bands of seven rows
    for name, file in {"a": "a.png", "b": "b.tif", "c": "c.png"}.items():
        mask = np.asarray(Image.open(output / "mask" / file)) > 0
        expected, count = ndimage.label(mask)
        large = [i for i in range(1, count + 1) if (expected == i).sum() >= 4]
        labels = tifffile.imread(output / "labels" / f"{name}.tif")
        assert labels.dtype == np.uint16 and labels.max() == len(large)
        for number, i in enumerate(large, start=1):
            np.testing.assert_array_equal(labels == number, expected == i)


def test_a_line_says_what_can_be_measured_by_hand(call):
    output, _ = call(ALL)
    square, frame = [line for line in lines_of(output) if line["picture"] == "a.png"]
    box = ("left", "top", "width", "height")
    assert [square[k] for k in ("label", "area", *box)] == ["1", "120", "5", "4", "10", "12"]
    assert [frame[k] for k in ("label", "area", *box)] == ["2", "148", "20", "20", "16", "10"]
    assert (float(square["centroid_x"]), float(square["centroid_y"])) == (10, 10)
    corner = 1 - math.sqrt(0.5)
    assert math.isclose(float(square["perimeter"]), 44 - 4 * corner, abs_tol=5e-4)
    assert math.isclose(float(frame["perimeter"]), 52 + 14 - 8 * corner, abs_tol=5e-4)
    # the hole of 12 pixels around (25, 24.5) moves the centre of 160 around (28, 25)
    x, y = (160 * 28 - 12 * 25) / 148, (160 * 25 - 12 * 24.5) / 148
    assert math.isclose(float(frame["centroid_x"]), x, abs_tol=5e-4)
    assert math.isclose(float(frame["centroid_y"]), y, abs_tol=5e-4)
    # samples are the colours: all three hold the square, two the frame
    assert [float(square[k]) for k in ("probability", "agreement", "area_std")] == [1, 1, 0]
    assert math.isclose(float(frame["probability"]), 2 / 3, abs_tol=1e-5)
    assert math.isclose(float(frame["agreement"]), 2 / 3, abs_tol=5e-5)
    assert frame["area_std"] == "0" and frame["confidence"] == frame["unit"] == ""


def test_polygons_and_rois_filled_are_the_labels(call):
    output, _ = call(ALL)
    for name in "abc":
        labels = tifffile.imread(output / "labels" / f"{name}.tif")
        content = json.loads((output / "geojson" / f"{name}.geojson").read_text())
        assert content["type"] == "FeatureCollection" and "crs" not in content
        assert len(content["features"]) == labels.max()
        for number, feature in enumerate(content["features"], start=1):
            assert feature["properties"]["objectType"] == "detection"
            rings = feature["geometry"]["coordinates"]
            assert all(ring[0] == ring[-1] for ring in rings)
            np.testing.assert_array_equal(filled(rings, labels.shape), labels == number)
        with zipfile.ZipFile(output / "rois" / f"{name}.zip") as file:
            entries = [ImagejRoi.frombytes(file.read(entry)) for entry in file.namelist()]
        assert [int(roi.name) for roi in entries] == [*range(1, labels.max() + 1)]
        for number, roi in enumerate(entries, start=1):
            rings = roi.coordinates(multi=True)
            np.testing.assert_array_equal(filled(rings, labels.shape), labels == number)
            rows, columns = np.nonzero(labels == number)
            assert (roi.top, roi.bottom) == (rows.min(), rows.max() + 1)
            assert (roi.left, roi.right) == (columns.min(), columns.max() + 1)


def test_measurements_are_those_of_the_table(call):
    output, _ = call(ALL)
    lines = [line for line in lines_of(output) if line["picture"] == "a.png"]
    features = json.loads((output / "geojson/a.geojson").read_text())["features"]
    for line, feature in zip(lines, features, strict=True):
        measured = feature["properties"]["measurements"]
        names = ("Area px^2", "Perimeter px", "Mean probability", "Agreement", "Area std px^2")
        assert [*measured] == [*names]
        columns = ("area", "perimeter", "probability", "agreement", "area_std")
        assert [*measured.values()] == [float(line[k]) for k in columns]


def test_the_same_command_predicts_nothing_again_and_keeps_the_lines(call):
    output, asked = call(ALL)
    assert asked == [0, 1, 2]
    before = lines_of(output)
    assert call(ALL)[1] == []  # c.png has no objects, and is done as well
    assert lines_of(output) == before


@pytest.mark.parametrize("lost", ["labels/a.tif", "geojson/a.geojson", "rois/a.zip"])
def test_what_is_lost_is_made_again_and_no_line_is_doubled(call, lost):
    output, _ = call(ALL)
    before = sorted(map(str, lines_of(output)))
    (output / lost).unlink()
    assert call(ALL)[1] == [0]
    assert sorted(map(str, lines_of(output))) == before and (output / lost).is_file()


def test_lines_of_a_picture_that_was_not_finished_come_anew(call):
    output, _ = call(ALL)
    before = sorted(map(str, lines_of(output)))
    path = output / "summary.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("b.tif")))
    with open(output / "objects.csv", "a") as file:
        file.write("b.tif,1,2")  # what a computer that lost its power leaves
    assert call(ALL)[1] == [1]
    assert sorted(map(str, lines_of(output))) == before


def test_a_table_asked_for_later_is_made_and_then_goes_on_by_itself(call, folder):
    output, _ = call("--outputs=labels")
    assert not (output / "objects.csv").exists()
    assert call("--outputs=objects")[1] == [0, 1]  # c has no objects, as its labels say
    Image.fromarray(picture()[:18]).save(folder / "a.png")
    assert call()[1] == [0]
    assert [line["label"] for line in lines_of(output) if line["picture"] == "a.png"] == ["1"]
    assert tifffile.imread(output / "labels/a.tif").shape == (18, 50)


def test_a_table_of_another_program_is_not_touched(call):
    output, _ = call()
    (output / "objects.csv").write_text("mine\n1\n")
    with pytest.raises(UserError, match=r"objects.csv: is not in the format this program writes"):
        call(ALL)
    assert (output / "objects.csv").read_text() == "mine\n1\n"


def test_names_that_are_formulas_are_text_in_the_table(call, folder):
    Image.fromarray(picture()).save(folder / "=1+2.png")
    output, _ = call(ALL)
    names = {line["picture"] for line in lines_of(output)}
    assert names == {"'=1+2.png", "a.png", "b.tif"}
    assert call(ALL)[1] == []


@pytest.mark.parametrize("large", [False, True])
def test_interiors_divide_the_objects_that_touch(call, folder, monkeypatch, large):
    """Also those of an image whose maps are too large to be held together."""
    image = np.zeros((30, 40, 3), np.uint8)
    image[5:25, 4:20] = image[5:25, 20:36] = 255
    image[5:25, 19:21, 2] = 0  # the seam is no interior
    Image.fromarray(image).save(folder / "a.png")
    if large:
        monkeypatch.setattr(certainty_columns, "MAX_VALUES", 1)
    assert tifffile.imread(call(ALL)[0] / "labels/a.tif").max() == 1
    output, _ = call(ALL, "--overwrite", interior=True)
    labels = tifffile.imread(output / "labels/a.tif")
    np.testing.assert_array_equal(labels > 0, image[..., 0] > 0)
    assert labels[10, 10] != labels[10, 30] and labels.max() == 2
    lines = [line for line in lines_of(output) if line["picture"] == "a.png"]
    assert [int(line["area"]) for line in lines] == [*np.bincount(labels.ravel())[1:]]
    assert [line["agreement"] for line in lines] == ["" if large else "1"] * 2


@pytest.mark.parametrize("large", [False, True])
def test_the_distance_divides_discs_that_touch_whatever_the_network_learnt(
    call, folder, monkeypatch, large
):
    y, x = np.mgrid[:30, :44]
    discs = ((y - 15) ** 2 + (x - 13) ** 2 <= 81) | ((y - 15) ** 2 + (x - 30) ** 2 <= 81)
    Image.fromarray(np.repeat(discs[..., None] * np.uint8(255), 3, 2)).save(folder / "a.png")
    if large:
        monkeypatch.setattr(certainty_columns, "MAX_VALUES", 1)
    assert tifffile.imread(call(ALL, interior=True)[0] / "labels/a.tif").max() == 1
    for interior in (False, True):
        has = {"interior": interior, "separate": "distance"}
        output, _ = call(ALL, "--overwrite", **has)
        labels = tifffile.imread(output / "labels/a.tif")
        np.testing.assert_array_equal(labels > 0, discs)
        np.testing.assert_array_equal(labels == labels[15, 13], discs & (x <= 21))
        lines = [line for line in lines_of(output) if line["picture"] == "a.png"]
        assert [line["agreement"] for line in lines] == ["" if large else "1"] * 2
    assert call(ALL, **has)[1] == []
    with pytest.raises(UserError, match="separate was distance, now None"):
        call(ALL, interior=True)


def test_an_image_too_large_gets_a_line_and_no_objects(call, monkeypatch, caplog):
    monkeypatch.setattr(object_outputs, "MAX_PIXELS", 40 * 50 - 1)
    output, _ = call(ALL)
    said = [m for m in caplog.messages if "no objects" in m]
    assert said == ["a.png: no objects are written: its 2000 pixels are more than 1999"]
    assert not (output / "labels/a.tif").exists() and (output / "labels/b.tif").exists()
    assert (output / "mask/a.png").exists() and call(ALL)[1] == []


def test_an_image_whose_samples_are_too_many_has_objects_without_agreement(
    call, monkeypatch, caplog
):
    full = lines_of(call(ALL)[0])
    monkeypatch.setattr(certainty_columns, "MAX_VALUES", 1)
    output, _ = call(ALL, "--overwrite")
    assert "a.png: too large for the agreement, area_std and confid" in " ".join(caplog.messages)
    left_out = dict.fromkeys(("agreement", "area_std"), "")
    assert lines_of(output) == [line | left_out for line in full]


def test_an_object_of_some_samples_is_listed_as_doubtful_and_is_no_label(call, folder):
    image = picture()
    image[4:10, 30:40, 2] = 255  # one sample of three, and one third of the probability
    Image.fromarray(image).save(folder / "a.png")
    output, _ = call(ALL)
    lines = [line for line in lines_of(output) if line["picture"] == "a.png"]
    assert [line["status"] for line in lines] == ["object", "object", "doubtful"]
    last = lines[-1]
    box = ("label", "area", "left", "top", "width", "height", "centroid_x", "centroid_y")
    assert [last[k] for k in box] == ["3", "60", "30", "4", "10", "6", "35", "7"]
    assert float(last["agreement"]) == pytest.approx(1 / 3, abs=5e-5)
    assert float(last["probability"]) == pytest.approx(1 / 3, abs=1e-5)
    assert float(last["perimeter"]) == pytest.approx(32 - 4 * (1 - math.sqrt(0.5)), abs=5e-4)
    assert last["confidence"] == last["area_std"] == ""
    assert tifffile.imread(output / "labels/a.tif").max() == 2
    with zipfile.ZipFile(output / "rois/a.zip") as file:
        assert len(file.namelist()) == 2
    features = json.loads((output / "geojson/a.geojson").read_text())["features"]
    classes = [one["properties"].get("classification", {}).get("name") for one in features]
    assert classes == [None, None, "Doubtful"]
    rings = features[-1]["geometry"]["coordinates"]
    wanted = np.zeros((40, 50), bool)
    wanted[4:10, 30:40] = True
    np.testing.assert_array_equal(filled(rings, wanted.shape), wanted)
    shown = np.asarray(Image.open(output / "overlay/a.png"))
    assert (shown[4, 30:40] == TINT).all() and (shown[9, 30:40] == TINT).all()
    assert call(ALL)[1] == []


def test_without_samples_the_agreement_is_of_generations_or_a_line_says_it_is_missing(call, caplog):
    caplog.set_level(logging.INFO, "absl")
    assert all(line["agreement"] for line in lines_of(call(ALL, samples=0)[0]))
    assert not any("no agreement" in m for m in caplog.messages)


def test_confidence_belongs_to_the_label():
    labels = np.zeros((6, 9), int)
    labels[1:3, 1:4], labels[4:6, 5:9] = 2, 1
    one = np.array([0.25, 0.75])
    known = Objects(labels, np.array([8, 6]), one, one, one, np.array([0.125, np.nan]))
    probability = np.full(labels.shape, 65535, np.uint16)
    first, second = (o.row for o in measured(labels, probability, known, None, "x"))
    assert (first.area, first.agreement, first.confidence) == (8, 0.25, 0.125)
    assert (second.area, second.agreement) == (6, 0.75) and math.isnan(second.confidence)


def geotiff(path, pixels, raster=1):
    keys = (1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, raster, 3072, 0, 1, 32633, 3076, 0, 1, 9001)
    tags = [
        (33550, 12, 3, (0.5, 0.25, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, 440720.0, 5809152.0, 0.0), True),
        (34735, 3, len(keys), keys, True),
    ]
    tifffile.imwrite(path, pixels, extratags=tags, photometric="rgb", metadata=None)


def test_a_geotiff_gives_map_coordinates(call, folder):
    geotiff(folder / "m.tif", picture())
    output, _ = call(ALL)
    content = json.loads((output / "geojson/m.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    labels = tifffile.imread(output / "labels/m.tif")
    with tifffile.TiffFile(output / "labels/m.tif") as file:
        assert file.pages[0].tags[33550].value == (0.5, 0.25, 0.0)
    for number, feature in enumerate(content["features"], start=1):
        rings = [np.array(ring) for ring in feature["geometry"]["coordinates"]]
        back = [(ring - (440720, 5809152)) / (0.5, -0.25) for ring in rings]
        np.testing.assert_array_equal(filled(back, labels.shape), labels == number)
        x, y = (rings[0] - rings[0][0]).T  # counter-clockwise, as RFC 7946 asks for
        assert x[:-1] @ y[1:] - y[:-1] @ x[1:] > 0
    line = next(line for line in lines_of(output) if line["picture"] == "m.tif")
    assert line["unit"] == "m" and float(line["unit_area"]) == 120 * 0.125
    assert float(line["unit_x"]) == 440720 + 10 * 0.5
    assert float(line["unit_y"]) == 5809152 - 10 * 0.25


def test_micrometres_of_a_microscope_are_in_the_table_and_in_the_labels(call, folder):
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 250, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(
        folder / "o.ome.tif", picture(), photometric="rgb", metadata={"axes": "YXS", **size}
    )
    output, _ = call(ALL)
    line = next(line for line in lines_of(output) if line["picture"] == "o.ome.tif")
    assert line["unit"] == "um" and float(line["unit_area"]) == 120 * 0.125
    straight = 2 * (9 * 0.5 + 11 * 0.25) + 4 * math.hypot(0.25, 0.125)
    assert math.isclose(float(line["unit_perimeter"]), straight, rel_tol=1e-6)
    with tifffile.TiffFile(output / "labels/o.ome.tif") as file:
        x, y, unit = (file.pages[0].tags[code].value for code in (282, 283, 296))
    assert (x[0] / x[1], y[0] / y[1], unit) == (20_000, 40_000, 3)  # in a centimetre
    features = json.loads((output / "geojson/o.ome.geojson").read_text())["features"]
    assert features[0]["properties"]["measurements"]["Area um^2"] == 15


def test_places_beyond_what_imagej_holds_as_integers_are_kept():
    labels = np.zeros((3, 70_000), int)
    labels[0:2, 65_000:65_010] = 1
    (one,) = measured(labels, np.zeros(labels.shape, np.uint16), None, None, "x")
    with zipfile.ZipFile(io.BytesIO(rois([one]))) as file:
        (points,) = ImagejRoi.frombytes(file.read("00001.roi")).coordinates(multi=True)
    assert {tuple(map(int, p)) for p in points} == {
        *((65_000, 0), (65_010, 0), (65_010, 2), (65_000, 2))
    }


def test_nothing_is_a_collection_without_features():
    assert json.loads(geojson([], None)) == {"type": "FeatureCollection", "features": []}
    assert isinstance(rois([]), bytes) and Outlined._fields == ("row", "rings")
