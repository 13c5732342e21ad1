"""The scale at which images are predicted, and which outputs come without being asked for."""

import csv
import json
import logging

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from stand_in import StandIn, run_of

from segdiff_jax import predict
from segdiff_jax.certainty import calibration, conformal
from segdiff_jax.certainty.quantities import IntervalModel
from segdiff_jax.cli.predict_args import parse
from segdiff_jax.errors import UserError

SIDE, STEP = 16, 24  # of squares, and from one to the next


def squares():
    """Returns nine squares whose equivalent diameter is 2 SIDE / sqrt(pi) = 18.05."""
    image = np.zeros((3 * STEP, 3 * STEP, 3), np.uint8)
    for top in range(4, 3 * STEP, STEP):
        for left in range(4, 3 * STEP, STEP):
            image[top : top + SIDE, left : left + SIDE] = 255
    return image


@pytest.fixture
def call(tmp_path):
    """call("--flag"...) predicts squares.png; returns the output and the sizes predicted."""
    run, folder = run_of(tmp_path), tmp_path / "images"
    folder.mkdir()
    Image.fromarray(squares()).save(folder / "squares.png")

    def call(*argv, diameter=0.0, count=0.0, pixel=0.0, fitted=None, **has):
        given = [f"--workdir={run}", f"--input={folder}", f"--output={tmp_path / 'out'}"]
        model, seen = StandIn(samples=3, **has), []
        model.config.data.objects, model.config.data.pixel_size = (float(diameter), count), pixel
        bands, model.calibration = model.bands, fitted

        def watched(images, first=0):
            def each():
                for image in images:
                    seen.append(image.shape[:2])
                    yield image

            yield from bands(each(), first)

        model.bands = watched
        predict.predict(parse([*given, *argv]), model)
        return tmp_path / "out", seen

    return call


def mask_of(output):
    return np.asarray(Image.open(output / "mask/squares.png")) > 0


@pytest.mark.parametrize("scale", [0.5, 2, 1.37])
def test_results_have_the_size_of_the_image_at_any_scale(call, scale):
    output, seen = call(f"--scale={scale}", "--outputs=all")
    assert seen == [(round(72 * scale),) * 2]
    mask, true = mask_of(output), squares()[..., 0] > 0
    inside = ndimage.binary_erosion(true, iterations=2)
    outside = ~ndimage.binary_dilation(true, iterations=2)
    assert mask.shape == true.shape and mask[inside].all() and not mask[outside].any()
    with open(output / "objects.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 9 and {line["agreement"] for line in lines} == {"1"}
    areas = np.array([float(line["area"]) for line in lines])
    assert (np.abs(np.sqrt(areas) - SIDE) <= 1).all()  # half a pixel on each side


def test_the_size_of_objects_gives_the_scale_and_both_are_a_setting(call):
    output, seen = call("--object_size=18", diameter=9.0)
    assert seen == [(36, 36)]
    assert json.loads((output / "settings.json").read_text())["scale"] == 0.5
    assert call("--scale=0.5")[1] == []  # the same, and done
    with pytest.raises(UserError, match=r"scale was 0\.5, now None"):
        call()


def test_a_run_that_does_not_know_its_objects_needs_a_scale(call):
    wanted = r"--object_size=18: .* does not know the size of the objects .* is --scale=F"
    with pytest.raises(UserError, match=wanted):
        call("--object_size=18")
    with pytest.raises(UserError, match="--object_size and --scale: only one"):
        call("--object_size=18", "--scale=2")
    for bad in ("--scale=0", "--scale=21", "--object_size=0"):
        with pytest.raises(UserError, match="must be"):
            call(bad)


def test_an_image_that_would_be_too_large_is_refused(call):
    with pytest.raises(UserError) as error:
        call("--scale=3", "--max_pixels=46655")
    assert "5184 pixels, 3 times as large in both directions" in error.value.details[0]
    assert call("--scale=3", "--max_pixels=46656")[1] == [(216, 216)]


@pytest.fixture
def sized(tmp_path, call):
    """squares.png, which states nothing, and pictures of 0.5, 0.25 and 0.2525 um a pixel."""
    for name, size in (("a", 0.5), ("b", 0.25), ("c", 0.2525)):
        stated = {"resolution": (1e4 / size, 1e4 / size), "resolutionunit": 3}
        path = tmp_path / "images" / f"{name}.tif"
        tifffile.imwrite(path, squares(), photometric="rgb", **stated)
    return call


def test_pictures_are_brought_to_the_pixels_of_the_training_each_by_its_own(sized, caplog):
    caplog.set_level(logging.INFO, "absl")
    output, seen = sized("--scale=auto", "--outputs=all", pixel=0.25)
    assert seen == [(144, 144), (72, 72), (72, 72), (72, 72)]
    said = [one for one in caplog.messages if " um, those" in one or "does not say" in one]
    assert said == [
        "a.tif: its pixels measure 0.5 um, those of the training 0.25: it is predicted 2 times as "
        "large",
        "squares.png: does not say how large its pixels are: it is predicted as it is",
    ]
    assert json.loads((output / "settings.json").read_text())["scale"] == "auto"
    expected = np.asarray(Image.open(output / "mask/squares.png"))
    for name in "bc":
        np.testing.assert_array_equal(tifffile.imread(output / f"mask/{name}.tif"), expected)
    assert tifffile.imread(output / "mask/a.tif").shape == (72, 72)
    assert sized("--scale=auto", pixel=0.25)[1] == []
    with pytest.raises(UserError, match="scale was auto, now None"):
        sized(pixel=0.25)


def test_what_a_calibration_says_is_left_out_of_pictures_at_another_scale_alone(sized):
    parts = dict.fromkeys(calibration.Calibration._fields) | {"least": 0.0}
    width = dict.fromkeys(conformal.LEVELS, 10.0)
    parts |= {"area": IntervalModel("mask", "constant", width, False, 50)}
    parts |= {"n": 50, "fingerprint": "", "source": "", "classes": {}}
    fitted = calibration.Calibration(**parts)
    output, _ = sized("--scale=auto", pixel=0.25, fitted=fitted)
    with open(output / "summary.csv", newline="") as file:
        areas = {line["name"]: line["area_low"] for line in csv.DictReader(file)}
    assert areas == {"a.tif": "", **dict.fromkeys(("b.tif", "c.tif", "squares.png"), "2294.0")}


def test_a_picture_at_the_scale_of_the_training_is_predicted_as_without_a_scale(sized, tmp_path):
    for name in ("a.tif", "c.tif", "squares.png"):
        (tmp_path / "images" / name).unlink()
    output, _ = sized("--scale=auto", "--outputs=all", pixel=0.25)
    places = [path for path in sorted(output.rglob("b*")) if path.is_file()]
    before = [path.read_bytes() for path in places]
    sized("--overwrite", "--outputs=all", pixel=0.25)
    assert len(places) > 6 and [path.read_bytes() for path in places] == before


def test_other_pixels_than_those_of_the_training_get_a_line_without_a_scale(sized, caplog):
    sized(pixel=0.25)
    sized("--scale=1", "--overwrite", pixel=0.25)
    sized("--overwrite")
    said = [message for message in caplog.messages if " um, those" in message]
    found = "a.tif: its pixels measure 0.5 um, those of the training 0.25"
    assert said == [f"{found}: try --scale=auto"]


def test_pixels_that_cannot_be_brought_to_those_of_the_training_are_one_line(sized):
    with pytest.raises(UserError, match="--scale=auto: .* does not know how large the pixels are"):
        sized("--scale=auto")
    with pytest.raises(UserError, match="--scale=own: must be a number, .* at most 20, or auto"):
        sized("--scale=own", pixel=0.25)
    with pytest.raises(UserError, match="1 of 4 images done; 3 failed") as caught:
        sized("--scale=auto", pixel=0.01)
    wanted = "measure 0.5 um, those of the training 0.01; allowed is a scale of 0.05 to 20, not 50"
    assert wanted in caught.value.details[0]
    with pytest.raises(UserError, match="3 of 4 images done; 1 failed") as caught:
        sized("--scale=auto", "--max_pixels=20735", "--overwrite", pixel=0.25)
    assert "5184 pixels, 2 times as large in both directions" in caught.value.details[0]


def test_the_size_of_objects_is_that_of_those_that_interiors_divide(call, caplog, tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    image[4:36, 4:56] = 255
    image[4:36, 15:56:10, 2] = 0  # seams, which are no interiors
    Image.fromarray(image).save(tmp_path / "images" / "squares.png")
    call(diameter=50.0)  # one object is too few to compare
    call("--overwrite", diameter=20.0, interior=True)  # of about 10 x 32, nearly as large as those
    call("--overwrite", diameter=50.0, interior=True)
    lines = [message for message in caplog.messages if "its objects measure" in message]
    assert len(lines) == 1 and lines[0].endswith("those of the training 50: try --scale=2.5")


@pytest.mark.parametrize(("diameter", "said"), [(7.0, "0.39"), (40.0, "2.2"), (12.0, ""), (0, "")])
def test_an_image_whose_objects_are_far_from_those_of_the_training_gets_a_line(
    call, caplog, diameter, said
):
    call(diameter=diameter)
    lines = [message for message in caplog.messages if "its objects measure" in message]
    wanted = f"squares.png: its objects measure 18.1 pixels, those of the training {diameter:.3g}"
    assert lines == ([f"{wanted}: try --scale={said}"] if said else [])


def test_with_a_scale_nothing_is_said_of_sizes(call, caplog):
    call("--scale=1.5", diameter=3.0)
    assert not any("its objects measure" in message for message in caplog.messages)


def test_objects_come_by_themselves_where_images_of_the_training_hold_several(call, caplog):
    caplog.set_level(logging.INFO, "absl")
    output, _ = call(count=2.5)
    names = {path.name for path in output.iterdir()}
    assert {"labels", "objects.csv"} < names and not names & {"geojson", "rois", "samples"}


@pytest.mark.parametrize(("argv", "count"), [((), 1.5), (("--outputs=maps",), 9.0)])
def test_one_object_an_image_or_maps_alone_give_no_objects(call, argv, count):
    output, _ = call(*argv, count=count)
    assert not {path.name for path in output.iterdir()} & {"labels", "objects.csv"}


def test_a_folder_without_objects_goes_on_without_them(call):
    call(count=1.0)
    output, seen = call(count=9.0)
    assert seen == [] and not (output / "objects.csv").exists()


def test_all_outputs_are_those_of_objects_and_the_samples(call):
    output, _ = call("--outputs=all", "--samples=3")
    names = {path.name for path in output.iterdir()}
    assert {"labels", "objects.csv", "geojson", "rois", "samples"} < names
    assert "generations" not in names
