"""Exported networks predict like their runs; the card says what the files say, and no more."""

import json
import re
import shutil

import numpy as np
import pytest
import yaml
from refusals import refused
from tiny_config import tiny

import segdiff_jax
from segdiff_jax import errors
from segdiff_jax.checkpoint import places, run_config, run_data
from segdiff_jax.cli import export_args, segdiff
from segdiff_jax.export import card

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 16, 3), np.uint8)
SECRET = "secret_place"
ABOUT = """
title = "Cells <script> | of mine"
data = "Pictures of cells."
data_license = "CC0"
license = "cc0-1.0"
limits = "Not tried on tissue."
"""


def scores(dice):
    def one(mean):
        return {"mean": mean, "standard_error": 0.01, "defined": 2, "undefined": 0}

    images = [{"name": f"patient{i}", "dice": x, "iou": x / 2} for i, x in enumerate(dice)]
    return {
        "settings": {"updates": 7, "seed": 3, "data": "folder, split 'test'"},
        "summary": {"dice": one(float(np.mean(dice))), "iou": one(0.5)},
        "images": images,
        "certainty": {"pixels": {"band": {"ece": 0.021}}, "quality": {"spearman": 0.65}},
    }


@pytest.fixture
def run(run_of_chance, tmp_path):
    """A run with a report, a log, a record of its data, and paths in its config."""
    run = shutil.copytree(run_of_chance, tmp_path / SECRET / "run")
    config = tiny()
    config.data.dir, config.data.prepared_dir = f"/{SECRET}/data", f"/{SECRET}/prepared"
    run_config.write_config(config, run)
    (run / "report").mkdir()
    (run / "report" / "report.json").write_text(json.dumps(scores([0.8, 0.9])))
    run_data.write(run, {"train": {"patient7": "ab", "patient8": "cd"}})
    lines = [{"step": 4, "loss": 1.0, "steps_per_second": 0.001}]
    lines.append({"step": 6, "loss": 1.0, "steps_per_second": 0.002})
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return run


def export(*argv):
    return segdiff.main(["export", *map(str, argv)])


def test_float32_predicts_bit_for_bit_like_its_run_and_float16_nearly(run, tmp_path):
    truth = segdiff_jax.load(run).predict(IMAGE)
    for dtype, most in (("float32", 0.0), ("float16", 0.01)):
        folder = tmp_path / dtype
        assert export(f"--workdir={run}", f"--output={folder}", f"--dtype={dtype}") == errors.DONE
        model = segdiff_jax.load(folder)
        assert model.step == 7
        assert np.abs(model.predict(IMAGE).probability - truth.probability).max() <= most
    small, large = (tmp_path / name / places.WEIGHTS for name in ("float16", "float32"))
    assert small.stat().st_size < 0.6 * large.stat().st_size


def test_nothing_in_the_folder_tells_of_the_machine_or_of_pictures(run, tmp_path):
    folder = tmp_path / "out"
    assert export(f"--workdir={run}", f"--output={folder}") == errors.DONE
    assert {path.name for path in folder.iterdir()} == {
        *(places.CONFIG, places.WEIGHTS, places.CARD)
    }
    for path in folder.iterdir():
        content = path.read_bytes()
        assert SECRET.encode() not in content and b"patient" not in content, path


def test_names_of_pictures_are_written_on_request(run, tmp_path):
    folder = tmp_path / "out"
    assert export(f"--workdir={run}", f"--output={folder}", "--split_names") == errors.DONE
    found = json.loads((folder / places.SPLIT).read_text())
    assert found == {"train": ["patient7", "patient8"], "test": ["patient0", "patient1"]}


def test_the_card_has_the_texts_the_scores_by_kind_and_the_spread_of_seeds(run, tmp_path):
    (tmp_path / "about.toml").write_text(ABOUT)
    (tmp_path / "kinds.csv").write_text("patient0,purple\npatient1,grey\n")
    other = shutil.copytree(run, tmp_path / "other")
    (other / "report" / "report.json").write_text(json.dumps(scores([0.7, 0.6])))
    argv = [f"--about={tmp_path / 'about.toml'}", f"--kinds={tmp_path / 'kinds.csv'}"]
    argv += [f"--seeds={other}", f"--workdir={run}", f"--output={tmp_path / 'out'}"]
    assert export(*argv) == errors.DONE
    text = (tmp_path / "out" / places.CARD).read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "cc0-1.0" and header["pipeline_tag"] == "image-segmentation"
    assert "# Cells &lt;script> \\| of mine" in text and "Not tried on tissue." in text
    # mean and sample deviation of 0.85 and 0.65
    assert "| Dice | 0.850 | 0.010 | 2 | 0.750 | 0.141 |" in text
    assert "| grey | 1 | 0.900 +- - | 0.450 +- - | - +- - | 0.900 |" in text
    assert "ECE in the band of contours: 0.021" in text and "not calibrated" in text
    assert "time of the updates: 1.389 hours" in text  # 4 / 0.001 s + 2 / 0.002 s
    assert "2 images" in text
    for line in re.findall(r"^\|.*$", text, re.MULTILINE):
        assert line.endswith("|"), line


def test_an_earlier_export_is_replaced_on_request_only(run, tmp_path, capsys):
    folder = tmp_path / "out"
    argv = [f"--workdir={run}", f"--output={folder}"]
    assert export(*argv, "--split_names") == errors.DONE
    assert export(*argv) == errors.USAGE
    assert "choose an empty folder; or --overwrite" in capsys.readouterr().err
    assert export(*argv, "--overwrite", "--dtype=float16") == errors.DONE
    assert not (folder / places.SPLIT).exists()
    (folder / "mine.txt").write_text("mine")
    assert export(*argv, "--overwrite") == errors.USAGE
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".exporting")]


def test_a_folder_with_two_kinds_of_weights_is_refused(run, tmp_path):
    assert export(f"--workdir={run}", f"--output={tmp_path / 'out'}") == errors.DONE
    shutil.copy(tmp_path / "out" / places.WEIGHTS, run)
    error = refused(segdiff_jax.load, run)
    assert "holds both" in str(error) and error.code == errors.BAD_CHECKPOINT


def test_the_suffix_of_the_output_decides(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = [f"--workdir={run}"]
    for name, kind in (
        ("x.pt", export_args.Export),
        ("x.stablehlo", export_args.Program),
        ("nuclei-0.1", export_args.Folder),
    ):
        assert isinstance(export_args.parse([*argv, f"--output={name}"]), kind)
    assert export_args.parse([*argv, "--export=x.pt"]) == export_args.parse(
        [*argv, "--output=x.pt"]
    )


BAD = [
    (["--output=x.onnx"], "--output=x.onnx: must be a folder, FILE.pt or FILE.stablehlo"),
    (["--output=x.pt", "--export=y.pt"], "not with --output"),
    (["--output=x.pt", "--dtype=float16"], "--dtype: not with --output=FILE.pt"),
    (["--output=x", "--size=64"], "--size: not with --output=a folder"),
    (["--output=x", "--dtype=float61"], "--dtype=float61: must be one of float32, float16; did"),
    (["--output=x", "--about=no.toml"], "--about=no.toml: cannot be read: No such file"),
    (["--output=x", "--about=bad.toml"], "--about=bad.toml: is no TOML file"),
    (["--output=x", "--about=odd.toml"], "lisense: must be a text of title, data, "),
    (["--output=x", "--about=odd2.toml"], "title: must be a text of"),
    (["--output=x", "--kinds=no.csv"], "--kinds=no.csv: no such file"),
    (["--output=x", "--kinds=bad.toml"], "--kinds=bad.toml: line 1: must be NAME,KIND"),
    (["--output=x", "--seeds=nowhere"], "must be the directory of a run"),
    (["--output=x.stablehlo", "--size=0"], "--size=0: must be an integer, at least 1"),
    (["--output=x.stablehlo", "--size=15"], "--size=15: must be a multiple of 2"),
    (["--output=x.stablehlo", "--platforms=gpu"], "--platforms=gpu: must be of cpu, cuda"),
    (["--output=bad.toml"], "must be a directory; bad.toml is a file"),
]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=range(len(BAD)))
def test_a_mistake_takes_one_line(argv, message, run_of_chance, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("title = \n")
    (tmp_path / "odd.toml").write_text("lisense = 'x'\n")
    (tmp_path / "odd2.toml").write_text("title = 3\n")
    assert export(f"--workdir={run_of_chance}", *argv) == errors.USAGE
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("segdiff: ")]
    assert message in line


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": 3}', "{", "[" * 10**5])
def test_a_report_that_is_none_takes_one_line(content, run, tmp_path, capsys):
    (run / "report" / "report.json").write_text(content)
    assert export(f"--workdir={run}", f"--output={tmp_path / 'out'}") == errors.BAD_CHECKPOINT
    assert "report.json is no report of segdiff" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_time_of_a_log_that_does_not_tell_is_unknown(tmp_path):
    assert np.isnan(card.training_hours(tmp_path))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n')
    assert np.isnan(card.training_hours(tmp_path))
