"""The real command line in processes of its own: from nothing to a report, killed, and in pairs."""

import io
import json
import re
import signal
import sys
import time

import jax
import numpy as np
import pytest
from job_processes import (
    environment,
    final_state,
    finish,
    losses,
    run_arguments,
    start_run,
    write_config,
)
from tiny_config import CANARY, SECRETS, slack

from launch.local import Job, Layout

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Has no prepared data: the first program that needs some makes them."""
    folder = tmp_path_factory.mktemp("processes")
    write_config(folder)
    return folder


# SIGINT must work also where the tests run in the background, where shells ignore it
LISTENING = (
    *(sys.executable, "-c"),
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('segdiff_jax.main', run_name='__main__', alter_sys=True)",
)


@pytest.fixture(scope="module")
def alone(folder):
    output = finish(start_run(folder, folder / "alone"))
    return folder / "alone", output


def test_one_command_prepares_trains_evaluates_and_reports_and_once_more_says_it_is_done(
    folder, alone
):
    """Neither the log nor a file of it holds a secret of the environment."""
    workdir, output = alone
    assert (workdir / "report" / "report.html").stat().st_size > 100_000
    assert (workdir / "config.json").exists() and (workdir.parent / "data" / "synthetic").is_dir()
    assert "update 6 of 6" in output and "test: iou" in output
    assert losses(workdir)[-1][0] == 6
    files = [path for path in workdir.rglob("*") if path.is_file()]
    holding = [path for path in files if CANARY.encode() in path.read_bytes()]
    print(f"secrets: {len(SECRETS)}, {len(files)} files and the log hold {len(holding)}")
    assert len(files) > 30 and not holding and CANARY not in output
    again = finish(start_run(folder, workdir, "--mode=train"))
    assert "already trained, 6 of 6 updates" in again


@pytest.mark.slow  # `test_kill9` is of five kills
def test_a_run_killed_with_minus_9_ends_as_if_it_had_not_been(folder, alone):
    workdir = folder / "killed"
    process = start_run(folder, workdir, "--mode=train")
    deadline = time.monotonic() + 200
    while not list(workdir.glob("checkpoints/[24]")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finish(start_run(folder, workdir, "--mode=train"))
    ours, theirs = final_state(folder, workdir), final_state(folder, alone[0])
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(one, other)
    assert losses(workdir) == losses(alone[0])


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signalled_run_saves_and_logs_it_within_ten_seconds(folder, kind):
    workdir = folder / kind.name
    flags = "--mode=train", "--config.train.steps=1000000"
    process = start_run(folder, workdir, *flags, main=LISTENING)
    deadline = time.monotonic() + 200
    while not list(workdir.glob("checkpoints/[24]")) and time.monotonic() < deadline:
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(kind)
    output = process.communicate(timeout=100)[1]
    seconds = time.monotonic() - began
    print(f"{kind.name}: saved and ended after {seconds:.1f} s with {process.returncode}")
    assert seconds < 10 * slack()
    assert process.returncode == (130 if kind == signal.SIGINT else 143)
    last = re.search(r"stopped at update (\d+) of 1000000; the same command goes on", output)
    assert last and (workdir / "checkpoints" / last[1]).is_dir()


@pytest.mark.slow  # tests/faults/test_pod_life.py has this layout, too
def test_two_processes_of_four_devices_take_the_steps_of_one_of_eight(folder, alone):
    workdir, output = folder / "pair", io.StringIO()
    job = Job(
        run_arguments(folder, workdir), Layout(2, devices=4), output, environment=environment()
    )
    assert job.wait() == 0, output.getvalue()
    pairs = list(zip(losses(workdir), losses(alone[0]), strict=True))
    apart = max(abs(ours[1] / theirs[1] - 1) for ours, theirs in pairs)
    print(f"2x4 against 1x8: {len(pairs)} losses, at most {apart:.1e} apart")
    for (step, ours), (other, theirs) in pairs:
        assert step == other and ours == pytest.approx(theirs, rel=1e-5)
    ours, theirs = final_state(folder, workdir), final_state(folder, alone[0])
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    one, other = (
        json.loads((path / "report" / "report.json").read_text()) for path in (workdir, alone[0])
    )
    assert len(one["images"]) == len(other["images"]) == 32
