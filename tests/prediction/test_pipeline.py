"""One image that fails, for whatever reason, does not end the others."""

import errno
import json
import os
import re

import numpy as np
import pytest
import tifffile
from PIL import Image
from stand_in import StandIn
from tiny_config import tiny

from segdiff_jax import errors
from segdiff_jax import predict as predict_program
from segdiff_jax.cli.predict_args import parse
from segdiff_jax.data.image_io import writing
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.prediction import image_reader, pipeline
from segdiff_jax.prediction.inputs import find_images
from segdiff_jax.prediction.summary import Summary
from segdiff_jax.runtime import files

NAMES = ["a.png", "b.png", "c.png", "d.png"]


@pytest.fixture
def folder(tmp_path):
    directory = tmp_path / "in"
    directory.mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (9 + number, 8), (200, 90, 30 * number)).save(directory / name)
    return directory


class Failing(StandIn):
    """Fails at images of given widths, as a device does: after it has read ahead of them."""

    def __init__(self, error, widths, ahead=4):
        super().__init__()
        self.error, self.widths, self.ahead, self.calls = error, widths, ahead, 0

    def bands(self, images, first=0):
        self.calls += 1
        images = iter(images)
        while group := [image for image, _ in zip(images, range(self.ahead), strict=False)]:
            if any(image.shape[1] in self.widths for image in group):
                raise self.error
            yield from super().bands(group, first)


def predict(folder, output, model):
    """Predicts what is missing; returns (names done by this call, lines of the failures)."""
    with Summary(output) as summary:
        work = pipeline.FolderPrediction(model.bands, output, Limits(), 0.5, 0, summary)
        work.run([one for one in find_images(folder)[1] if not work.is_done(one)])
    return [row.name for row in work.done], [str(line) for line in work.problems]


@pytest.mark.parametrize(
    "error",
    [ValueError("too\nlarge"), MemoryError(), AssertionError(), RuntimeError("RESOURCE_EXHAUSTED")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("widths", [{9}, {10, 11}, {12}, {9, 12}, {9, 10, 11, 12}])
def test_an_error_of_a_call_is_the_line_of_the_image_that_causes_it(
    folder, tmp_path, error, widths
):
    bad = [name for number, name in enumerate(NAMES) if 9 + number in widths]
    done, lines = predict(folder, tmp_path / "out", Failing(error, widths))
    assert sorted(done) == [name for name in NAMES if name not in bad]
    assert [line.split(":")[0] for line in lines] == [str(folder / name) for name in bad]
    assert all("\n" not in line for line in lines)
    assert sorted(predict(folder, tmp_path / "out", StandIn())[0]) == bad


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EACCES])
def test_a_name_that_cannot_be_written_is_a_line_and_a_full_disk_the_end(
    folder, tmp_path, monkeypatch, number
):
    write, refused = os.replace, {"b.png": number}

    def replace(source, target):
        if name := refused.get(target.name):
            raise OSError(name, os.strerror(name))
        write(source, target)

    monkeypatch.setattr(os, "replace", replace)
    done, lines = predict(folder, tmp_path / "out", StandIn())
    assert done == ["a.png", "c.png", "d.png"]
    assert len(lines) == 1 and "b.png: cannot be written: " in lines[0]
    refused["b.png"] = errno.ENOSPC
    with pytest.raises(files.WriteError, match="No space left"):
        predict(folder, tmp_path / "out", StandIn())
    refused.clear()
    assert predict(folder, tmp_path / "out", StandIn()) == (["b.png"], [])


@pytest.mark.parametrize("name", ["n" * 251, "ü" * 125, "片" * 83])
def test_the_longest_names_of_a_file_system_can_be_predicted(folder, tmp_path, name):
    os.rename(folder / "b.png", folder / f"{name}.png")
    done, lines = predict(folder, tmp_path / "out", StandIn())
    assert (len(done), lines) == (4, [])
    assert (tmp_path / "out" / "mask" / f"{name}.png").is_file()


@pytest.mark.parametrize("name", ["n" * 251, "ü" * 125 + "n", "片" * 83 + "nn"])
def test_a_sample_of_the_longest_name_gets_a_shorter_one(tmp_path, name):
    (tmp_path / f"{name}.png").touch()
    (tmp_path / f"{name[:-1]}m.png").touch()
    outputs = [path for one in find_images(tmp_path)[1] for path in one.samples(tmp_path, 12)]
    assert len({path.name for path in outputs}) == 24
    (tmp_path / "samples").mkdir()
    for path in outputs:
        path.touch()
        assert path.name.startswith(name[:60]) and path.suffix == ".png"


def test_a_name_that_is_no_text_can_be_predicted(folder, tmp_path):
    os.rename(folder / "b.png", os.fsencode(folder) + b"/m\xe9 \xff.png")
    assert len(predict(folder, tmp_path / "out", StandIn())[0]) == 4
    assert predict(folder, tmp_path / "out", StandIn()) == ([], [])


@pytest.mark.parametrize(
    "tags",
    [
        writing.Tags(dpi=(1e10, 1e10)),
        writing.Tags(dpi=(float("nan"), 1.0)),
        writing.Tags({282: (5, 1, (0, 0)), 283: (5, 1, (1, 0)), 296: (3, 1, 2)}),
        writing.Tags(
            {282: (5, 1, (2**40, 1)), 283: (5, 1, (1, 1)), 33550: (12, 3, (1.0, 1.0, 0.0))}
        ),
        writing.Tags({33550: (12, 3, "text")}),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_metadata_that_cannot_be_written_are_left_out_with_a_line(tmp_path, caplog, tags, suffix):
    usable = writing.usable_tags(tags, suffix, "name of the image")
    if usable != tags:
        assert len(caplog.messages) == 1 and "name of the image" in caplog.messages[0]
    path = tmp_path / f"map{suffix}"
    writing.save(path, np.zeros((3, 4), np.uint8), usable)
    assert path.is_file()
    if suffix == ".tif" and 282 in tags.tiff:
        assert usable.tiff.keys() == tags.tiff.keys() - {282, 283, 296}


@pytest.mark.parametrize(
    "argv, names",
    [
        (["--input={0}/a.png,{0}/c.png"], ["a.png", "c.png"]),
        (["--input={0}/d.png", "--input={0}/a.png"], ["a.png", "d.png"]),
        (["--input", "{0}/a.png", "{0}/b.png"], ["a.png", "b.png"]),
        (["--input={0}/[b-c].png"], ["b.png", "c.png"]),
        (["--input={0}/?.png,{0}"], NAMES),
    ],
)
def test_the_input_may_be_several_paths_and_patterns(folder, tmp_path, argv, names):
    (tmp_path / "config.json").write_text(json.dumps(tiny().to_dict()))
    given = [argument.format(folder) for argument in argv]
    command = parse([f"--workdir={tmp_path}", *given, f"--output={tmp_path / 'out'}"])
    assert command.folder == folder and [one.name for one in command.inputs] == names


@pytest.mark.parametrize(
    "name",
    [".lock", ".lock-holder", "summary.csv", "settings.json", "mask", "samples", "mask/a.png"],
)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_predict_writes_through_no_link_out_and_into_no_pipe(folder, tmp_path, name, kind):
    run, prey, output = tmp_path / "run", tmp_path / "prey", tmp_path / "out"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(tiny().to_dict()))
    prey.write_text("of somebody else")
    (output / name).parent.mkdir(parents=True)
    os.mkfifo(output / name) if kind == "pipe" else (output / name).symlink_to(prey)
    argv = [f"--workdir={run}", f"--input={folder}", f"--output={output}", "--overwrite"]
    with pytest.raises(errors.UserError, match=re.escape(str(output / name))) as error:
        predict_program.run_command(argv)
    assert error.value.code == errors.CANNOT_WRITE
    assert prey.read_text() == "of somebody else" and len(list(output.rglob("*"))) <= 2


def test_metadata_that_can_be_written_are_kept(caplog):
    tags = writing.Tags({282: (5, 1, (72, 1)), 283: (5, 1, (72, 1)), 296: (3, 1, 2)})
    assert writing.usable_tags(tags, ".tif", "") is tags
    assert writing.usable_tags(writing.Tags(dpi=(72, 72)), ".png", "").dpi == (72, 72)
    assert not caplog.messages


def test_a_page_whose_tags_are_damaged_is_predicted_without_them(folder, tmp_path, caplog):
    (folder / "a.png").unlink()
    tifffile.imwrite(
        folder / "a.tif",
        np.zeros((8, 9, 3), np.uint8),
        photometric="rgb",
        extratags=[(296, 3, 1, 77, True), (282, 5, 1, (0, 0), True), (283, 5, 1, (5, 0), True)],
    )
    done, lines = predict(folder, tmp_path / "out", StandIn())
    assert "a.tif" in done and not lines
    assert any("a.tif" in message for message in caplog.messages)


def test_every_error_of_one_image_has_one_line_with_its_path(tmp_path):
    path = tmp_path / "x.png"
    for error, wanted in (
        (MemoryError(), f"{path}: it takes more memory than there is"),
        (OSError(errno.EIO, "Input/output error"), f"{path}: Input/output error"),
        (errors.bad_data(path, "config.reading.page: no"), f"{path}: --page: no"),
        (KeyError("a\nb"), f"{path}: KeyError: 'a\\nb'"),
    ):
        assert str(image_reader.problem(path, error)) == wanted
