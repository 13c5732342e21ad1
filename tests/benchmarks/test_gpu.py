"""The program for a machine with a GPU, on a CPU with a tiny network."""

import json
import os
import subprocess
import sys

import pytest
from tiny_config import ROOT

from benchmarks import gpu, learning
from benchmarks.results_file import ResultsFile
from segdiff_jax.errors import DONE, INTERNAL, USAGE
from segdiff_jax.factory import networks


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out=X"], "--data=DIR or --prepared=DIR must name MoNuSeg"),
        (["--data=X"], "--out is missing"),
        (["--out=X", "--only=traning"], "'traning' is not one of training, twin"),
        (["--out=X", "--data=X", "--minutes=0"], "--minutes=0.0: must be above 0"),
        (["--out=X", "--data=X", "--large=-1"], "--large=-1: must be at least 0"),
        (["--out=X", "--data=X", "--twin"], "--twin: no such option"),
    ],
)
def test_mistakes_take_one_line(arguments, message, capsys):
    assert gpu.main(arguments) == USAGE
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1


def test_what_is_not_installed_is_named_before_anything_is_imported(monkeypatch, capsys):
    assert gpu.missing() == []
    version = gpu.importlib.metadata.version

    def lacking(name):
        if name in ("clu", "tensorflow-datasets", "promise"):  # the last is what TFDS needs
            raise gpu.importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(gpu.importlib.metadata, "version", lacking)
    assert gpu.main(["--check"]) == USAGE
    assert (
        "not installed: clu, promise, tensorflow-datasets: pip install" in capsys.readouterr().err
    )


def test_a_line_that_a_kill_tore_is_passed_over_and_the_next_one_is_whole(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    assert results.last("training", "mark") is None
    results.add("training", "mark", updates=5)
    with results.path.open("a") as file:
        file.write('{"part": "training", "what": "ma')
    results.add("training", "mark", updates=7)
    assert [line["updates"] for line in results.lines("training", "mark")] == [5, 7]
    assert results.last("training", "mark")["updates"] == 7


def values(tmp_path, **changes):
    words = {"out": tmp_path, "prepared": tmp_path, "seconds": 400} | changes
    return gpu.parse([f"--{name}={value}" for name, value in words.items()])


def test_parts_that_are_done_are_passed_over_and_those_without_time_left_out(tmp_path, monkeypatch):
    clock, ran = [0.0], []

    def run(command, seconds):
        ran.append((command[2] if command[2] == "benchmarks.run" else command[-3], seconds))
        clock[0] += 130
        return 1 if "--part=twin" in command else 0

    monkeypatch.setattr(gpu, "_run", run)
    monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])
    gpu.measure(values(tmp_path))
    # of 400 seconds 130 each: 140 are left for throughput, 10 for speed, which needs 180
    wanted = [("--part=training", 400), ("--part=twin", 270), ("--part=throughput", 140)]
    assert ran == wanted
    results = ResultsFile(tmp_path / "results.jsonl")
    assert results.last("twin", "failed")["exit_code"] == 1
    assert results.last("speed", "left out") == results.lines("speed", "left out")[0]
    ran.clear()
    gpu.measure(values(tmp_path))
    assert [name for name, _ in ran] == ["--part=twin", "benchmarks.run"]


def test_nothing_measured_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "_run", lambda command, seconds: None)
    words = [f"--out={tmp_path}", "--only=throughput"]
    assert gpu.main(words) == INTERNAL
    assert "no part was measured" in capsys.readouterr().err
    assert ResultsFile(tmp_path / "results.jsonl").last("throughput", "ended early")


def test_a_part_that_takes_too_long_is_ended():
    assert gpu._run([sys.executable, "-c", "import time; time.sleep(60)"], 0.2) is None
    assert gpu._run([sys.executable, "-c", "raise SystemExit(3)"], 20) == 3


def test_the_twin_has_as_many_passes_as_the_network():
    one, twin = (learning.config_of("monuseg:gpu", part, 0) for part in ("training", "twin"))
    assert networks.one_pass(twin) and not networks.one_pass(one)
    assert (one.train.steps, twin.train.steps) == (3000, 3600)
    assert one.train.share_at_T == 0.6  # 2 passes, one of G and one of the U-Net, and 3 of the rest
    assert one.model.channels == twin.model.channels == 64
    assert learning.config_of("monuseg:gpu", "training", 500).train.steps == 500


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu_and_a_second_command_goes_on(tmp_path, run_of_chance):
    config = tmp_path / "config.py"
    config.write_text(
        "from tiny_config import tiny\n\n\ndef get_config():\n    c = tiny()\n"
        "    c.diffusion.prediction = 'logit'\n    c.train.steps = 24\n    return c\n"
    )
    words = [f"--out={tmp_path / 'out'}", f"--prepared={tmp_path / 'data'}", f"--config={config}"]
    words += [f"--model={run_of_chance}", "--side=24", "--large=40", "--repeats=2", "--seconds=500"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])

    def call(*more):
        environment = os.environ | {"PYTHONPATH": path}
        command = [sys.executable, "-m", "benchmarks.gpu", *words, *more]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == DONE, done.stderr
        return done.stdout

    # a first process that is stopped after an instant of training, and one that goes on
    call("--only=training", "--minutes=0.00001")
    results = ResultsFile(tmp_path / "out" / "results.jsonl")
    (stopped,) = results.lines("training", "mark")
    assert stopped["updates"] < 24
    kept = [
        line
        for line in results.path.read_text().splitlines()
        if json.loads(line)["what"] in ("mark", "is")
    ]
    results.path.write_text("\n".join(kept) + "\n")
    call("--only=training,twin,throughput")
    marks = results.lines("training", "mark")
    further = range(stopped["updates"] // 2 * 2 + 2, 25, 2)  # a mark every second update
    assert [line["updates"] for line in marks] == [stopped["updates"], *further]
    assert all(a["seconds"] < b["seconds"] for a, b in zip(marks, marks[1:], strict=False))
    assert results.last("training", "weights")["updates"] == 24
    budgets = [line["budget"] for line in results.lines("training", "scores")]
    assert budgets == ["fast", "balanced", "paper"]
    for line in results.lines("training", "scores") + results.lines("twin", "scores"):
        assert 0 <= line["ece"] <= 1 and 0 <= line["dice"] <= 1 and line["iou"] <= line["dice"]
    assert results.last("twin", "weights")["of"] == 29
    rates = results.lines("throughput", "pictures a second")
    assert [line["budget"] for line in rates] == ["fast", "balanced", "paper"]
    assert all(line["low"] <= line["median"] <= line["high"] for line in rates)
    assert results.last("throughput", "large picture")["side"] == 40
    for part in ("training", "twin", "throughput"):
        assert results.last(part, "done"), part
    assert call("--only=training,twin,throughput").count("done before") == 3
