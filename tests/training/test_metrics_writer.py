"""Metrics reach their files whole, go on after a resume, and never stop a run."""

import gc
import json
import logging
import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tiny_config import ROOT

from segdiff_jax.training import metrics_writer


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def steps(workdir):
    return [line["step"] for line in lines(workdir)]


def events(workdir):
    """Returns (step, name, value) of every scalar in the TensorBoard files."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:  # length (8 bytes), its checksum (4), the event, its checksum (4)
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            data = data[16 + size :]
    return found


def write(workdir, start, stop):
    writer = metrics_writer.RunWriter(workdir, start)
    for step in range(start + 1, stop + 1):
        writer.scalars(step, {"loss": step / 2})
    writer.close()


def test_scalars_reach_both_files(tmp_path):
    write(tmp_path, 0, 3)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        (1, 0.5),
        (2, 1),
        (3, 1.5),
    ]
    assert all(line["time"] > 1.6e9 for line in lines(tmp_path))
    assert events(tmp_path) == [(1, "loss", 0.5), (2, "loss", 1), (3, "loss", 1.5)]


def test_a_line_is_on_disk_when_scalars_returns(tmp_path):
    writer = metrics_writer.RunWriter(tmp_path, 0)
    writer.scalars(1, {"loss": 1.0})
    assert steps(tmp_path) == [1]
    writer.close()


def test_a_resumed_run_cuts_what_came_after_its_checkpoint(tmp_path):
    write(tmp_path, 0, 5)
    write(tmp_path, 3, 6)
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("torn", ['{"step": 2, "lo', '{"step": 2}', "", "[]\n", "3\n"])
def test_a_torn_last_line_is_dropped(torn, tmp_path):
    write(tmp_path, 0, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    write(tmp_path, 2, 3)
    assert steps(tmp_path) == [1, 2, 3]


def test_a_number_that_is_not_finite_is_valid_json(tmp_path):
    writer = metrics_writer.RunWriter(tmp_path, 0)
    writer.scalars(1, {"loss": float("nan"), "norm": float("inf"), "rate": 1.0})
    writer.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["loss"] is None
    assert events(tmp_path) == [(1, "rate", 1.0)]


def test_other_processes_write_nothing(tmp_path):
    writer = metrics_writer.RunWriter(tmp_path, 0, enabled=False)
    writer.scalars(1, {"loss": 1.0})
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_logged_once_and_stops_nothing(tmp_path, caplog):
    (tmp_path / "run").write_text("a file where the directory should be")
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "run", 0, 3)
    assert len(caplog.records) == 1 and "metrics are not written" in caplog.text


def test_a_full_disk_is_logged_once_and_leaves_whole_lines(tmp_path, caplog, monkeypatch):
    writer = metrics_writer.RunWriter(tmp_path, 0)
    writer.scalars(1, {"loss": 1.0})
    write, free = os.write, [9, 0, 0]  # bytes there is room for
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(os, "write", lambda file, text: write(file, text[: free.pop(0)]))
        for step in (2, 3, 4):
            writer.scalars(step, {"loss": 1.0})
    writer.scalars(5, {"loss": 1.0})
    writer.close()
    assert steps(tmp_path) == [1, 5]
    assert len(caplog.records) == 1


def test_a_disk_that_takes_no_more_events_does_not_make_a_run_wait(tmp_path, caplog):
    def write_much():
        writer = metrics_writer.RunWriter(tmp_path, 0)
        for step in range(1, 200):
            writer.scalars(step, {"loss": 1.0, "mse": 2.0})
        writer.close()

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    thread = threading.Thread(target=write_much, daemon=True)
    with caplog.at_level(logging.WARNING):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limit[1]))  # bytes of any one file
        try:
            thread.start()
            thread.join(30)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not thread.is_alive()
    gc.collect()  # warns here, not in a later test, of a file that was left open
    assert caplog.text.count("metrics are not written") == 1
    assert steps(tmp_path) == list(range(1, 1 + len(lines(tmp_path))))  # whole lines


def test_an_error_in_the_background_stops_nothing(tmp_path, caplog, monkeypatch):
    def broken(*args):
        raise OSError("no space")

    monkeypatch.setattr(metrics_writer.TensorBoardWriter, "write_scalars", broken)
    with caplog.at_level(logging.WARNING, logger="absl"):
        write(tmp_path, 0, 3)
    assert steps(tmp_path) == [1, 2, 3]


def test_parameters_are_counted_in_the_log_and_listed_in_a_file(tmp_path, caplog):
    out = {"kernel": np.zeros((3, 3, 8, 1), np.float32)}
    params = {"encoder": {"bias": np.ones(1200)}, "unet": {"out": out, "bias": np.ones(5)}}
    with caplog.at_level(logging.INFO, logger="absl"):
        for enabled, directory in ((True, tmp_path), (False, tmp_path / "other")):
            writer = metrics_writer.RunWriter(directory, 0, enabled)
            writer.parameters(params)
            writer.close()
    said = [r.getMessage() for r in caplog.records]
    assert said == ["1,277 parameters", "        1,200  encoder", "           77  unet"]
    table = (tmp_path / "parameters.txt").read_text()
    assert "unet/out/kernel" in table and "(3, 3, 8, 1)" in table and "72" in table
    assert not (tmp_path / "other").exists()


def test_tensorflow_is_not_imported_even_where_it_is_installed(tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit('imported')")
    code = "import sys, segdiff_jax.training.metrics_writer; sys.exit('tensorflow' in sys.modules)"
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path)
    assert done.returncode == 0
