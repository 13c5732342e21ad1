"""A real grid of a tiny network: shared by two processes, interrupted, continued, reported."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from job_processes import prepare
from tiny_config import ROOT

from segdiff_jax.experiments import report
from segdiff_jax.runtime import lock

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory, synthetic_set):
    return prepare(tmp_path_factory.mktemp("grids"), synthetic_set, "c.diffusion.T = 30")


def start(folder, log, *more):
    arguments = (
        *(f"--config={folder / 'tiny_config.py'}", f"--dir={folder / 'grid'}"),
        *(f"--config.data.prepared_dir={folder / 'data'}", "--grid=images,generations,reverse"),
        *("--images=2,0", "--generations=3", *more),
    )
    # shells start background jobs with SIGINT ignored; here Ctrl-C must count
    code = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('segdiff_jax.experiments.run', run_name='__main__', alter_sys=True)"
    )
    with open(folder / log, "w") as file:
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stderr=file,
            cwd=ROOT,
            env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        )


def text(folder, *logs):
    return "".join((folder / log).read_text() for log in logs)


def results(folder):
    return {
        file: (file.read_text(), file.stat().st_mtime_ns)
        for name in ("result.json", "trained.json")
        for file in (folder / "grid").rglob(name)
    }


def test_a_grid_is_shared_interrupted_finished_and_never_done_twice(folder):
    first = start(folder, "interrupted")
    try:
        end = time.monotonic() + 900  # a busy machine compiles for minutes
        while "update 1 of 6" not in text(folder, "interrupted"):
            assert first.poll() is None and time.monotonic() < end, text(folder, "interrupted")
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        assert first.wait(300) == 143
    finally:
        first.kill()
    assert not any(map(lock.owner, (folder / "grid" / "locks").iterdir()))

    both = [start(folder, log) for log in ("a", "b")]
    assert [process.wait(1800) for process in both] == [0, 0], text(folder, "a", "b")
    logs = text(folder, "a", "b")
    trained = re.findall(r"training in (\S+)", logs)
    measured = re.findall(r"measuring \w+ in (\S+)", logs)
    assert len(trained) == len(set(trained)) == 2
    assert len(measured) == len(set(measured)) == 4
    for run in (folder / "grid" / "runs").iterdir():
        lines = (run / "metrics.jsonl").read_text().splitlines()
        steps = [line["step"] for line in map(json.loads, lines) if "loss" in line]
        assert steps == [1, 2, 3, 4, 5, 6]

    before = results(folder)
    assert len(before) == 6
    assert start(folder, "again").wait(600) == 0
    assert results(folder) == before
    assert "training in" not in text(folder, "again")
    assert "all 4 cells are done" in text(folder, "again")


def test_what_the_grid_measured_agrees_with_itself_and_is_reported(folder):
    found = {
        name: json.loads((folder / "grid" / path["answer"] / "result.json").read_text())
        for file in (folder / "grid" / "cells").rglob("*.json")
        for path in [json.loads(file.read_text())]
        for name in [file.stem]
    }
    whole = found["all"]["summary"]["iou"]["mean"]  # two generations, as tiny() has
    assert found["up-to-3"]["curves"]["iou"]["mean"][1] == pytest.approx(whole, abs=1e-9)
    assert found["up-to-3"]["generations"] == [1, 2, 3]
    assert found["all-steps"]["t"] == list(range(30, 0, -1))
    assert len(found["all-steps"]["curves"]["dice"]["mean"]) == 30
    names = (
        folder / "grid" / "runs" / run_of(folder, "images2") / "training_images.txt"
    ).read_text()
    assert len(names.split()) == 2
    assert report.main([f"--dir={folder / 'grid'}"]) == 0
    drawn = {file.stem for file in (folder / "grid" / "report" / "figures").glob("*.png")}
    expected = {"figure2", "figure3", "figure4", "figure5", "figure6"}
    # on some processors the IoU after six steps is 0, of which figure 3 can show no share
    assert drawn == (expected if whole else expected - {"figure3"})


def run_of(folder, name):
    cell = json.loads((folder / "grid" / "cells" / "images" / f"{name}.json").read_text())
    return cell["run"].removeprefix("runs/")
