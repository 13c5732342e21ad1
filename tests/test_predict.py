"""Files in, files out: what is written, what is skipped, and what is reported."""

import csv
import json
import logging
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from bounds import assert_within
from PIL import Image, TiffImagePlugin
from stand_in import StandIn, run_of
from tiny_config import ROOT, tiny

from segdiff_jax import errors, predict
from segdiff_jax.checkpoint import run_config
from segdiff_jax.cli import app
from segdiff_jax.cli.predict_args import parse
from segdiff_jax.data.image_io import bands, writing
from segdiff_jax.prediction import inputs, pipeline, summary
from segdiff_jax.prediction.output_maps import MapStatistics

SLACK = 4 * 65535 * 2**-23  # of whole numbers to 65535, made of shares in float32
RNG = np.random.default_rng(2)


@pytest.fixture
def run_dir(tmp_path):
    return run_of(tmp_path)


@pytest.fixture
def folder(tmp_path):
    """Four images of several formats and sizes."""
    directory = tmp_path / "images"
    directory.mkdir()
    for name, shape in (("b.png", (20, 30)), ("a.x.tif", (33, 9)), ("c.JPG", (16, 16))):
        write(directory / name, shape)
    write(directory / "ü d.png", (5, 5))
    return directory


def write(path, shape):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, {"c.JPG": "JPEG"}.get(path.name))


@pytest.fixture
def call(tmp_path, run_dir, folder):
    """call(model, "--flag"...) predicts the folder, or another --input; returns the output."""

    def call(model, *argv, output="out"):
        given = [f"--workdir={run_dir}", f"--output={tmp_path / output}", *argv]
        if not any(word.startswith("--input") for word in argv):
            given.append(f"--input={folder}")
        predict.predict(parse(given), model)
        return tmp_path / output

    return call


def rows_of(output):
    with open(output / "summary.csv", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def files_of(output):
    return {p.relative_to(output).as_posix(): p.read_bytes() for p in output.rglob("*.*")}


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_every_image_gets_its_maps_and_its_row(call, folder):
    output = call(StandIn())
    places = {"a.x.tif": "a.x.tif", "b.png": "b.png", "c.JPG": "c.png", "ü d.png": "ü d.png"}
    written = {f"{map_}/{place}" for map_ in inputs.MAPS for place in places.values()}
    assert files_of(output).keys() == written | {"summary.csv", "settings.json"}
    rows = rows_of(output)
    assert rows.keys() == places.keys()
    for number, (name, place) in enumerate(places.items()):
        image = pixels_of(folder / name)
        soft = np.clip(np.moveaxis(image, -1, 0) / 255 + number / 1000, 0, 1)
        mean, std = soft.mean(0), soft.std(0)
        stored = {map_: pixels_of(output / map_ / place) for map_ in inputs.MAPS}
        assert_within(stored["probability"], 65535 * mean, 0.5, SLACK)
        assert_within(stored["uncertainty"], 65535 * 2 * std, 0.5, SLACK)
        clear = abs(mean - 0.5) > 1e-6
        np.testing.assert_array_equal(stored["mask"][clear], 255 * (mean > 0.5)[clear])
        assert stored["overlay"].shape == image.shape
        row = rows[name]
        assert (int(row["height"]), int(row["width"])) == image.shape[:2]
        # six decimals of them are written
        assert_within(float(row["foreground_share"]), (mean > 0.5).mean(), 5e-7, 1e-12)
        assert_within(float(row["mean_uncertainty"]), std.mean(), 5e-7, 1e-6)


def test_a_threshold_other_than_one_half(call, folder):
    model = StandIn()
    model.threshold = 0.7
    output = call(model, "--threshold=0.7")
    mean = pixels_of(folder / "b.png").mean(-1) / 255 + 1 / 1000
    np.testing.assert_array_equal(pixels_of(output / "mask/b.png") > 0, mean > 0.7)


def test_generations_are_written_one_by_one(call, folder):
    output = call(StandIn(), "--save_generations")
    for k in range(3):
        stored = pixels_of(output / f"generations/a.x_{k + 1}.tif")
        image = pixels_of(folder / "a.x.tif")
        assert_within(stored, 65535 * (image[..., k] / 255), 0.5, SLACK)
    assert len(list((output / "generations").iterdir())) == 12


def test_samples_are_written_as_masks_and_counted(call, folder, caplog):
    caplog.set_level(logging.INFO, "absl")
    output = call(StandIn(samples=3), "--outputs=samples", "--samples=3")
    image = pixels_of(folder / "a.x.tif")
    for k in range(3):
        stored = pixels_of(output / f"samples/a.x_{k + 1}.tif")
        np.testing.assert_array_equal(stored, np.where(image[..., k] > 127, 255, 0))
    assert len(list((output / "samples").iterdir())) == 12
    assert {row["samples"] for row in rows_of(output).values()} == {"3"}
    assert any(
        re.fullmatch(r"4 images, \d+\.\d\d s each, 3\.0 samples of each", record.getMessage())
        for record in caplog.records
    )
    (output / "samples" / "b_2.png").unlink()
    call(model := StandIn(samples=3), "--outputs=samples", "--samples=3")
    assert model.asked == [1]
    model = StandIn(samples=3, generations=2)
    call(model, "--outputs=samples", "--samples=3", "--overwrite")  # two channels, two samples
    assert sorted(p.name for p in (output / "samples").glob("b_*")) == ["b_1.png", "b_2.png"]


def test_an_output_of_a_version_without_samples_is_continued(call):
    output = call(StandIn())
    path = output / "summary.csv"
    known = [line.split(",")[:13] for line in path.read_text().splitlines()]
    lines = [",".join(line).rpartition(",") for line in known]
    assert [last for *_, last in lines] == ["values", "", "", "", ""]
    lines = [line.rpartition(",") for line, *_ in lines]
    assert [last for *_, last in lines] == ["samples", "0", "0", "0", "0"]
    path.write_text("".join(f"{first}\n" for first, *_ in lines[:-1]))  # without the last image
    recorded = json.loads((output / "settings.json").read_text())
    assert not {"samples", "budget", "fusion", "masks", "tolerance"} & recorded.keys()
    call(model := StandIn())
    assert len(model.asked) == 1
    assert len(rows_of(output)) == 4 and path.read_text().startswith("name,width")


def test_what_must_be_predicted_whole_has_a_largest_size(call, monkeypatch):
    monkeypatch.setattr(pipeline, "LARGE", 280)  # b.png and a.x.tif are larger
    with pytest.raises(errors.UserError, match="2 of 4 images done") as error:
        call(model := StandIn(whole=True))
    assert "b.png: its 600 pixels are more than 280, the most with --tolerance" in str(
        error.value.details
    )
    assert model.asked == [2, 3]


def test_ranks_go_from_the_lowest_agreement_and_the_first_are_logged(call, caplog):
    caplog.set_level(logging.INFO, "absl")
    rows = list(rows_of(call(StandIn())).values())
    assert [int(row["look_rank"]) for row in rows] == [1, 2, 3, 4]
    agreement = [float(row["agreement"]) for row in rows]
    assert agreement == sorted(agreement) and agreement[0] < agreement[-1]
    logged = [record.getMessage() for record in caplog.records]
    assert logged[-4].startswith(f"  1. {rows[0]['name']}: agreement {agreement[0]:.3f}")


def test_equal_agreement_goes_by_uncertainty_then_confidence_then_name():
    def row(name, agreement, uncertainty, confidence):
        figures = MapStatistics(0.1, confidence, uncertainty, agreement, 0)
        return summary.row(name, (1, 1), figures, 0.0, (ROOT / "pyproject.toml").stat())

    rows = [
        row("torn", 0.5, 0.1, 0.9),
        row("unsure", 1.0, 0.2, 0.9),
        row("faint", 1.0, 0.1, 0.8),
        row("a", 1.0, 0.1, 0.9),
        row("b", 1.0, 0.1, 0.9),
    ]
    assert sorted(rows[::-1], key=summary.review_priority) == rows


def test_a_second_call_does_nothing(call):
    before = files_of(call(StandIn()))
    model = StandIn()
    assert files_of(call(model)) == before
    assert model.asked == []


def test_only_what_is_missing_or_changed_is_done_again(call, folder, tmp_path):
    output = call(StandIn())
    before = files_of(output)
    (output / "overlay" / "a.x.tif").unlink()
    os.utime(folder / "c.JPG", (1, 1))
    model = StandIn()
    call(model)
    assert model.asked == [0, 2]
    assert files_of(output).keys() == before.keys()
    call(model := StandIn(), "--save_generations")
    assert model.asked == [0, 1, 2, 3]
    call(model := StandIn())
    assert model.asked == []


def test_a_new_image_is_done_without_the_others(call, folder):
    call(StandIn())
    write(folder / "z.png", (4, 4))
    output = call(model := StandIn())
    assert model.asked == [3]  # before "ü d.png", which keeps its files
    assert rows_of(output).keys() == {p.name for p in folder.iterdir()}


def test_an_interrupted_call_goes_on_to_the_same_files(call, folder):
    whole = files_of(call(StandIn(), output="whole"))
    with pytest.raises(KeyboardInterrupt):
        call(StandIn(stop_at=2))
    output = call(StandIn(stop_at=99), "--input=" + str(folder / "b.png"))  # already done
    assert len(rows_of(output)) == 2
    call(model := StandIn())
    assert model.asked == [2, 3]
    maps = [name for name in whole if not name.startswith("s")]
    assert len(maps) == 16
    assert all(files_of(output)[name] == whole[name] for name in maps)
    assert [row["look_rank"] for row in rows_of(output).values()] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("missing", [1, 5, 50])
def test_a_torn_last_line_is_an_image_to_do(missing, call):
    output = call(StandIn())
    path = output / "summary.csv"
    name = list(rows_of(output))[-1]
    path.write_bytes(path.read_bytes()[:-missing])  # what a kill in the middle of a line leaves
    call(model := StandIn())
    assert len(model.asked) == 1
    assert list(rows_of(output))[-1] == name


def test_rows_are_whole_while_the_work_goes_on(call, tmp_path, monkeypatch):
    seen = []
    add = summary.Summary.add

    def spy(self, row):
        add(self, row)
        seen.append(self.path.read_text())

    monkeypatch.setattr(summary.Summary, "add", spy)
    call(StandIn())
    assert [text.count("\n") for text in seen] == [2, 3, 4, 5]
    assert all(text.endswith("\n") for text in seen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.config.sampling.update(generations=2), "generations was 3, now 2"),
        (lambda m: m.config.sampling.update(steps=2), "steps was 3, now 2"),
        (lambda m: m.config.sampling.update(stride=10), "overlap was 0, now 6"),
        (lambda m: m.config.sampling.update(fusion="median"), "fusion was None, now median"),
        (lambda m: m.config.sampling.update(x0="drawn"), "x0 was None, now drawn"),
        (
            lambda m: m.config.sampling.update(samples=2),
            "samples was None, now 2; masks was None, now coupled; tolerance was None, now 0.0",
        ),
        (
            lambda m: m.config.sampling.update(budget="fast"),
            "budget was None, now fast; generations was 3, now None; steps was 3, now None; "
            "sampler was ddpm, now None; variance was beta, now None; eta was 0.0, now None",
        ),
        (lambda m: setattr(m, "threshold", 0.25), "threshold was 0.5, now 0.25"),
        (lambda m: setattr(m, "step", 7), "update was 6, now 7"),
        (lambda m: m.config.update(seed=5), "seed was 0, now 5"),
        (lambda m: m.config.reading.update(page=0), "page was -1, now 0"),
        (
            lambda m: m.config.reading.update(float_range=(0.0, 1.5)),
            "float_range was [], now [0.0, 1.5]",
        ),
    ],
)
def test_other_settings_are_refused_by_name(change, message, call):
    before = files_of(call(StandIn()))
    model = StandIn()
    change(model)
    with pytest.raises(errors.UserError) as error:
        call(model)
    assert f"({message})" in str(error.value) and error.value.code == errors.USAGE
    assert model.asked == []
    output = call(model, "--overwrite")
    assert model.asked == [0, 1, 2, 3]
    assert files_of(output).keys() == before.keys()
    call(again := StandIn(), "--overwrite")
    assert again.asked == [0, 1, 2, 3]


def test_overwriting_one_file_leaves_the_rows_of_the_others(call, folder):
    output = call(StandIn())
    call(model := StandIn(), "--overwrite", f"--input={folder / 'b.png'}")
    assert model.asked == [1]
    assert len(rows_of(output)) == 4


def test_a_file_alone_gets_what_it_gets_among_others(call, folder):
    whole = files_of(call(StandIn(), output="whole"))
    alone = files_of(call(StandIn(), f"--input={folder / 'c.JPG'}"))
    assert all(alone[f"{map_}/c.png"] == whole[f"{map_}/c.png"] for map_ in inputs.MAPS)


def test_bad_files_are_listed_and_the_others_done(call, folder):
    for name, content in (("0.png", b""), ("bb.png", b"<html>"), ("zz.tif", b"II*\0")):
        (folder / name).write_bytes(content)
    half = (folder / "b.png").read_bytes()
    (folder / "c.png").write_bytes(half[: len(half) // 2])  # seen only when it is decoded
    write(folder / "d.png", (8, 8))
    model = StandIn()
    with pytest.raises(errors.UserError) as error:
        call(model)
    assert error.value.code == errors.BAD_DATA
    assert str(error.value) == "5 of 9 images done; 4 failed"
    assert {line.split(": ")[0] for line in error.value.details} == {
        str(folder / name) for name in ("0.png", "bb.png", "c.png", "zz.tif")
    }
    assert len(error.value.details) == 4
    assert model.asked == [1, 2, 4, 6, 8]  # as if the bad ones were good
    with pytest.raises(errors.UserError, match="5 of 9 images done; 4 failed"):
        call(again := StandIn())
    assert again.asked == []


def test_limits_are_named_as_the_flags_they_are(call, folder):
    Image.fromarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)).save(folder / "f.tif")
    argv = f"--input={folder / 'f.tif'}", "--float_range=0,1"
    for flag, message in (
        ("--float_range=0,0.5", "--float_range allows 0 to 0.5"),
        ("--max_pixels=11", "--max_pixels=11"),
        ("--channels=1", "--channels=1 are not all there"),
        ("--page=1", "--page=1 is not there"),
    ):
        with pytest.raises(errors.UserError) as error:
            call(StandIn(), argv[0], flag, output=f"out{flag}")
        assert message in error.value.details[0] and "config" not in error.value.details[0]
    output = call(StandIn(), *argv, output="scaled")
    ramp = np.rint(np.linspace(0, 255, 12)).reshape(3, 4) / 255
    stored = pixels_of(output / "probability" / "f.tif") / 65535 - 3 / 1000  # its number is 3
    np.testing.assert_allclose(stored, np.minimum(ramp, 0.997), atol=1e-2)


def test_files_that_are_no_images_are_counted_by_kind(call, folder, caplog):
    for name in ("a.txt", "b.TXT", "c.jp2", ".hidden", "README"):
        (folder / name).write_text("?")
    for form in ("bmp", "gif", "webp"):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(folder / f"more {form}.{form}")
    (folder / "inside" / "x").mkdir(parents=True)
    write(folder / "inside" / "c.png", (3, 3))
    _, found = inputs.find_images(folder, recursive=True)
    inputs.log_ignored(found)
    assert "not entered" not in caplog.text and len(found) == 8
    _, found = inputs.find_images(folder)
    inputs.log_ignored(found)
    assert f"{folder}: not entered, as without --recursive: inside" in caplog.text
    assert f"{folder}: ignored: 2 .txt, 1 .jp2, 1 hidden, 1 without suffix" in caplog.text
    assert len(found) == len(rows_of(call(StandIn()))) == 7
    caplog.clear()
    _, found = inputs.find_images(folder / "b.png")
    inputs.log_ignored(found)
    assert "ignored" not in caplog.text and len(found) == 1


def test_the_summary_says_what_became_black_and_white(call, folder, caplog):
    for path in folder.iterdir():
        path.unlink()
    picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3))
    written = {"8.png": picture.astype(np.uint8), "12.tif": (picture * 16).astype(np.uint16)}
    written |= {"16.tif": (picture * 257).astype(np.uint16)}
    written |= {"f.tif": (picture / 255).astype(np.float32)}
    for name, array in written.items():
        if name.endswith("png"):
            Image.fromarray(array).save(folder / name)
        else:
            tifffile.imwrite(folder / name, array, photometric="rgb")
    caplog.set_level("INFO")
    output = call(StandIn())
    with open(output / "summary.csv", newline="") as file:
        values = {row["name"]: row["values"] for row in csv.DictReader(file)}
    assert values["8.png"] == ""
    assert values["12.tif"].endswith("0..4095, usual for its values")
    assert values["16.tif"].endswith("0..65535, usual for its values")
    assert values["f.tif"].endswith("0..1, usual for its values")
    assert "3 images of more than 8 bits; values in summary.csv; 12.tif: uint16" in caplog.text
    maps = [np.asarray(Image.open(output / "overlay" / n)).astype(int) for n in written]
    for each in maps[1:]:
        assert np.median(np.abs(each - maps[0])) <= 1
    with pytest.raises(errors.UserError, match="value_range was auto, now full"):
        call(StandIn(), "--value_range=full")
    output = call(StandIn(), "--value_range=full", output="full")
    assert "12.tif: uint16" in caplog.text and "--value_range=auto would brighten it" in caplog.text


def test_large_images_are_read_one_at_a_time(call, monkeypatch):
    """Of two that are in memory at once, the second is read while the first is predicted."""
    events = []
    read, finish = bands.read, pipeline.FolderPrediction._finish

    def recording(path, channels, limits):
        events.append(f"read {path.name}")
        return read(path, channels, limits)

    def finishing(self, job, *results):
        time.sleep(0.2)  # for the reader, if it reads
        events.append(f"done {job.input.name}")
        finish(self, job, *results)

    monkeypatch.setattr(bands, "read", recording)
    monkeypatch.setattr(pipeline.FolderPrediction, "_finish", finishing)
    call(StandIn(), output="small")
    assert events.index("read ü d.png") < events.index("done c.JPG")
    events.clear()
    monkeypatch.setattr(pipeline, "LARGE", 290)  # b.png and a.x.tif are larger
    call(model := StandIn(), output="large")
    assert events[:4] == ["read a.x.tif", "done a.x.tif", "read b.png", "done b.png"]
    assert model.asked == [0, 1, 2, 3]


def test_a_file_that_changes_while_it_is_predicted_is_done_again(call, folder, monkeypatch):
    path, finish = folder / "a.x.tif", pipeline.FolderPrediction._finish

    def finishing(self, job, *results):
        if job.input.path == path:
            os.utime(path, (1, 1))
        finish(self, job, *results)

    monkeypatch.setattr(pipeline.FolderPrediction, "_finish", finishing)
    call(StandIn())
    call(model := StandIn())
    assert model.asked == [0]


def test_a_file_that_goes_away_is_one_that_cannot_be_read(call, folder):
    command = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "predict", lambda given, model: command.append(given))
        call(StandIn())
    (folder / "b.png").unlink()
    with pytest.raises(errors.UserError, match="3 of 4 images done") as error:
        predict.predict(command[0], StandIn())
    assert "b.png" in error.value.details[0]


def test_an_internal_error_while_reading_names_the_file(call, monkeypatch):
    def broken(path, channels, limits):
        raise ZeroDivisionError

    monkeypatch.setattr(bands, "read", broken)
    with pytest.raises(errors.UserError) as error:
        call(StandIn())
    assert error.value.details[0].endswith("a.x.tif: ZeroDivisionError")


def test_a_prediction_that_is_not_finite_names_the_image(call):
    model = StandIn()
    predicted = model.bands
    model.bands = lambda images, first: (
        b._replace(generations=b.generations * np.nan) for b in predicted(images, first)
    )
    with pytest.raises(errors.UserError) as error:
        call(model)
    assert error.value.code == errors.INTERNAL
    assert re.search(r"a\.x\.tif: row 0: .* not a finite", error.value.details[0])


def test_a_large_overlay_is_reduced_and_loses_its_tags(call, folder, monkeypatch):
    path = folder / "a.x.tif"
    fields = TiffImagePlugin.ImageFileDirectory_v2()
    fields.tagtype[33550], fields[33550] = 12, (2.0, 2.0, 0.0)
    Image.fromarray(pixels_of(path)).save(path, tiffinfo=fields)
    monkeypatch.setattr("segdiff_jax.prediction.overlay.LONGEST", 16)
    output = call(StandIn())
    assert pixels_of(output / "overlay" / "a.x.tif").shape == (11, 3, 3)
    tags = {m: writing.read_tags(output / m / "a.x.tif").tiff for m in inputs.MAPS}
    assert 33550 not in tags.pop("overlay")
    assert all(tag[33550] == (12, 3, (2.0, 2.0, 0.0)) for tag in tags.values())
    assert pixels_of(output / "mask" / "a.x.tif").shape == (33, 9)


def test_folders_of_a_folder_keep_their_shape(call, tmp_path):
    top = tmp_path / "tree"
    for name in ("a.png", "a.jpg", "one/a.png", "one/two/a.png", ".hidden/a.png", "b.png"):
        write(top / name, (6, 6))
    (top / "one" / "loop").symlink_to(top)
    with pytest.raises(errors.UserError, match="lies in"):
        call(StandIn(), f"--input={top}", "--recursive", output="tree/out")
    output = call(StandIn(), f"--input={top}", "--recursive")
    places = {"a.png.png", "a.jpg.png", "b.png", "one/a.png", "one/two/a.png"}
    masks = {p.relative_to(output / "mask").as_posix() for p in (output / "mask").rglob("*.png")}
    assert masks == places
    assert rows_of(output).keys() == {"a.png", "a.jpg", "b.png", "one/a.png", "one/two/a.png"}


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a.png", "b.jpg"], ["a", "b"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["a.jpg", "a.png", "a.png.jpg"], ["a.jpg", "a.png", "a.png.jpg"]),
        (["x.y.z.tif"], ["x.y.z"]),
    ],
)
def test_two_images_never_share_a_name(names, stems, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    assert [one.output_stem for one in inputs.find_images(tmp_path)[1]] == stems


BAD = [  # (argv, what the line says, exit code)
    (["--workdir="], "--workdir is missing", 64),
    (["--output="], "--output is missing", 64),
    (["--workdir=not/there"], "--workdir=not/there: must be the directory of a run", 64),
    (["--workdir=."], "holds no run: it has no config.json", 66),
    (["--input=not/there"], "--input=not/there: no such file or folder", 64),
    (["--input=run/config.json"], "must be a file with the end .png, .jpg, .jpeg", 64),
    (["--input=run"], ".webp (there are 1 .json)", 65),
    (["--input=."], ".gif, .webp; 2 folders below it do, such as images: add", 65),
    (
        ["--output=gs://b/c"],
        "--output=gs://b/c: must be a place in a file system of this machine",
        64,
    ),
    (["--output=images/b.png"], "must be a directory; images/b.png is a file", 64),
    (["--output=images/b.png/x"], "must be a directory; images/b.png is a file", 64),
    (["--output=images", "--recursive"], "lies in images, where --recursive would find it", 64),
    (["--output=taken"], "holds mask, which no prediction made", 64),
    (
        ["--input=taken/mask", "--output=taken", "--overwrite"],
        "taken/mask/a.png of the input w",
        64,
    ),
    (["--workdir=run,not/there"], "--workdir=not/there: must be the directory of a run", 64),
    (["--budget=slow"], "--budget=slow: must be one of fast, balanced, paper", 64),
    (["--fusion=vote"], "--fusion=vote: must be one of mean, median, majority, staple, medoi", 64),
    (["--separate=seeds"], "--separate=seeds: must be one of auto, distance", 64),
    (["--samples=-1"], "--samples=-1: must be an integer, at least 0", 64),
    (["--tolerance=-0.1"], "--tolerance=-0.1: must be a number, at least 0", 64),
    (
        ["--outputs=masks"],
        "--outputs=masks: must be of samples, generations, objects, labels, ",
        64,
    ),
    (["--outputs=samples"], "--outputs=samples: needs --samples=N, as the run draws none", 64),
    (["--outputs=samples", "--samples=0"], "--outputs=samples: needs --samples=N", 64),
    (["--generations=0"], "--generations=0: must be an integer, at least 1", 64),
    (["--generations=two"], "--generations=two: must be an integer", 64),
    (["--steps=-1"], "--steps=-1: must be an integer, at least 1, or 0 for all", 64),
    (["--steps=101"], "--steps=101: must be at most 100, the steps of the run", 64),
    (["--overlap=16"], "--overlap=16: must be less than a tile, 16 pixels", 64),
    (["--overlap=1.5"], "--overlap=1.5: must be an integer", 64),
    (["--threshold=1"], "--threshold=1: must be a number, at least 0, below 1", 64),
    (["--threshold=nan"], "--threshold=nan: must be a number", 64),
    (["--seed=-1"], "--seed=-1: must be an integer, at least 0", 64),
    (["--max_pixels=0"], "--max_pixels=0: must be an integer, at least 1", 64),
    (["--page=-1"], "--page=-1: must be an integer, at least 0", 64),
    (["--float_range=1"], "--float_range=1: must be LOW,HIGH: two numbers", 64),
    (["--float_range=2,1"], "--float_range=2,1: must be LOW,HIGH", 64),
    (["--float_range=0,inf"], "--float_range=0,inf: must be LOW,HIGH", 64),
    (["--value_range=1"], "--value_range=1: must be auto, full, or LOW,HIGH", 64),
    (["--value_range=2,1"], "--value_range=2,1: must be auto, full, or LOW,HIGH", 64),
    (["--value_range=wide"], "--value_range=wide: must be auto, full, or LOW,HIGH", 64),
    (["--channels=0,1"], "--channels=0,1: must be one or three numbers from 0", 64),
    (["--channels=-1"], "--channels=-1: must be one or three numbers from 0", 64),
    (["--channels=red"], "--channels=red: must be one or three numbers from 0", 64),
    (["--float_range="], "--float_range=: must be LOW,HIGH", 64),
    (["--overwrite=perhaps"], "overwrite=perhaps", 64),
    (["--treshold=0.4"], "--treshold: no such flag; did you mean threshold?", 64),
    (["--xyz"], "--xyz: no such flag; see --help", 64),
    (["image.png"], "image.png: flags are written --NAME=VALUE", 64),
]


@pytest.fixture
def standing_in(tmp_path, run_dir, folder, monkeypatch):
    """The current directory holds run/, images/ and taken/; nothing may load a model."""
    write(tmp_path / "taken" / "mask" / "a.png", (4, 4))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "set_up_logging", lambda: None)
    return ["--workdir=run", "--input=images", "--output=out"]


@pytest.mark.parametrize(("argv", "message", "code"), BAD, ids=lambda x: str(x)[:40])
def test_a_mistake_takes_one_line(argv, message, code, standing_in, capsys, monkeypatch):
    monkeypatch.setattr(predict, "predict", lambda *_: pytest.fail("a mistake got through"))
    if any(argument.startswith("--input") for argument in argv):  # several would be joined
        standing_in = [argument for argument in standing_in if argument != "--input=images"]
    assert predict.main([*standing_in, *argv]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("segdiff: ") and captured.err.count("\n") == 1
    assert message in captured.err and captured.out == ""


HOSTILE = [
    *("{", "[]", "{}", '{"diffusion": {}}', "[" * 200_000, '{"a":' * 100_000, "null", "3"),
    *(json.dumps(tiny().to_dict() | {"diffusion": one}) for one in ([], {"T": "x"}, {"T": {}}, 3)),
    *(json.dumps(tiny().to_dict() | {"model": {"channels": n}}) for n in (1e9, -8, 10**30, [[8]])),
    json.dumps(tiny().to_dict() | {"model": {"multipliers": [1] * 100_000}}),
    json.dumps(tiny().to_dict() | {"data": {"mean": [float("nan")] * 3}}),
    json.dumps(tiny().to_dict() | {"sampling": {"stride": 99, "tile": 16}}),
    json.dumps(tiny().to_dict() | {"extra": {"a": {"b": {"c": 1}}}}),
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_broken_config_is_a_bad_run(text, standing_in, run_dir, capsys):
    (run_dir / "config.json").write_text(text)
    assert predict.main(standing_in) == errors.BAD_CHECKPOINT
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "config.json is not the config of a run" in lines[0]
    assert len(lines[0]) < 700 and "Traceback" not in lines[0]
    with pytest.raises(errors.UserError, match="is not the config of a run") as error:
        run_config.read_config(run_dir)
    assert error.value.code == errors.BAD_CHECKPOINT


def test_unreadable_images_are_reported_at_the_end(standing_in, folder, capsys, monkeypatch):
    asked = {}

    def load(workdir, **chosen):
        asked.update(chosen)
        return StandIn()

    monkeypatch.setattr("segdiff_jax.api.load", load)
    (folder / "x.png").write_bytes(b"")
    argv = [*standing_in, "--generations=3", "--steps=2", "--overlap=4", "--seed=7"]
    argv += ["--budget=paper", "--samples=5", "--tolerance=0.1", "--threshold=0.2", "--page=0"]
    assert predict.main(argv) == errors.BAD_DATA
    assert asked == {
        **{"generations": 3, "steps": 2, "overlap": 4, "seed": 7, "budget": "paper"},
        **{"samples": 5, "tolerance": 0.1, "threshold": 0.2, "calibrated": False},
    }
    first, last = [x for x in capsys.readouterr().err.splitlines() if x.startswith("segdiff")]
    assert first.startswith("segdiff: images/x.png: ")
    assert last == "segdiff: 4 of 5 images done; 1 failed"


def test_ctrl_c_ends_with_its_code(standing_in, capsys, monkeypatch):
    monkeypatch.setattr("segdiff_jax.api.load", lambda *_, **__: StandIn(stop_at=1))
    assert predict.main(standing_in) == errors.INTERRUPTED
    assert capsys.readouterr().err.endswith("segdiff: interrupted\n")


def test_a_summary_of_another_program_is_not_touched(call, tmp_path):
    output = call(StandIn())
    (output / "summary.csv").write_text("image,score\na,1\n")
    with pytest.raises(errors.UserError, match="is not in the format this program writes"):
        call(StandIn())
    assert (output / "summary.csv").read_text() == "image,score\na,1\n"


def test_help_is_one_screen(capsys):
    assert predict.main(["--help"]) == errors.DONE
    text = capsys.readouterr().out
    assert "--save_generations" in text and text.count("\n") < 60
    assert max(map(len, text.splitlines())) <= 100


def test_the_command_line_imports_no_jax():
    code = (
        "import sys; from segdiff_jax import predict; print(predict.main(['--workdir=no']));"
        "sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "64\n")
    assert done.stderr.startswith("segdiff: ") and done.stderr.count("\n") == 1


def test_an_internal_error_shows_its_traceback(capsys):
    def bug(_):
        raise ZeroDivisionError("ours")

    assert app.run(bug, [], "doc", "less") == errors.INTERNAL
    printed = capsys.readouterr().err
    assert "Traceback" in printed and "in bug" in printed
    last = printed.splitlines()[-1]
    assert last == "segdiff: internal error of segdiff_jax, or of a library it uses"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, synthetic_set):
    """Two updates of the tiny network, which know nothing but have all a run has."""
    import jax

    from segdiff_jax import train

    config = tiny()
    config.data.prepared_dir = str(synthetic_set)
    config.train.steps = 2
    workdir = tmp_path_factory.mktemp("trained")
    jax.config.update("jax_disable_most_optimizations", True)
    train.train(config, workdir)
    yield workdir
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.slow
def test_files_are_predicted_as_arrays_are(trained, tmp_path, monkeypatch):
    import segdiff_jax

    monkeypatch.setattr(app, "set_up_logging", lambda: None)
    for name, shape in (("a.png", (40, 33)), ("b.tif", (16, 16)), ("c.png", (9, 20))):
        write(tmp_path / "images" / name, shape)
    (tmp_path / "images" / "bb.png").write_bytes(b"")
    given = {"workdir": trained, "input": tmp_path / "images", "output": tmp_path / "out"}
    argv = [*(f"--{name}={path}" for name, path in given.items()), "--overlap=4", "--seed=3"]
    assert predict.main([*argv, "--save_generations"]) == errors.BAD_DATA  # bb.png
    model = segdiff_jax.load(trained, overlap=4, seed=3)
    for number, place in ((0, "a.png"), (1, "b.tif"), (3, "c.png")):
        answer = model.predict(pixels_of(tmp_path / "images" / place), number=number)
        stored = {m: pixels_of(tmp_path / "out" / m / place) for m in inputs.MAPS}
        assert_within(stored["probability"], 65535 * answer.probability, 0.5, SLACK)
        assert_within(stored["uncertainty"], 131070 * answer.uncertainty, 0.5, SLACK)
        clear = abs(answer.probability - 0.5) > 1e-6
        np.testing.assert_array_equal((stored["mask"] == 255)[clear], answer.mask[clear] > 0)
        for k, generation in enumerate(answer.generations, start=1):
            one = tmp_path / "out" / "generations" / place.replace(".", f"_{k}.")
            assert_within(pixels_of(one), 65535 * generation, 0.5, SLACK)
    recorded = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (recorded["update"], recorded["overlap"], recorded["seed"]) == (2, 4, 3)
    before = files_of(tmp_path / "out")
    assert predict.main(argv) == errors.BAD_DATA
    assert files_of(tmp_path / "out") == before
