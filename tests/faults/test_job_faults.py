"""Jobs of two processes in which one dies, hangs, differs, does not join or gets a signal."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from job_processes import FAULTY, final_state, losses, prepare, run_arguments
from tiny_config import CANARY, ROOT, SECRETS, slack

from launch.local import HOST, Job, Layout, free_port
from segdiff_jax import errors

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def folder(tmp_path_factory, synthetic_set):
    return prepare(tmp_path_factory.mktemp("jobs"), synthetic_set)


class Running:
    """A job of two in the background of the test."""

    def __init__(self, folder, workdir, *flags, fault="-", place=0, step=0, grace=40.0, cache=None):
        environment = os.environ | {"FAULT": f"{fault} {place} {step}", "JAX_LOG_COMPILES": "1"}
        if cache is None:
            environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        else:  # an empty one: everything is compiled, as well as can be
            environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        self.output = io.StringIO()
        self.job = Job(
            [*run_arguments(folder, workdir, "--mode=train"), *flags],
            Layout(2),
            self.output,
            (sys.executable, "-u", "-c", FAULTY),
            environment | SECRETS,
        )
        self.code = None
        self.thread = threading.Thread(target=self._wait, args=(grace,), daemon=True)
        self.thread.start()

    def _wait(self, grace):
        self.code = self.job.wait(grace)

    def until(self, pattern, seconds=600):
        """Waits for something in the output, and returns the time."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.output.getvalue()) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not re.search(pattern, self.output.getvalue()):
            self.job.signal(signal.SIGKILL)
            raise AssertionError(self.output.getvalue()[-3000:])
        return time.monotonic()

    def end(self, seconds=200):
        """Returns (exit code, output) once all have ended."""
        self.thread.join(seconds)
        if self.thread.is_alive():
            self.job.signal(signal.SIGKILL)
            raise AssertionError(self.output.getvalue()[-3000:])
        assert CANARY not in self.output.getvalue()  # nor is it in the stacks and the traceback
        return self.code, self.output.getvalue()

    def terminate(self, kind):
        """Signals all; returns (exit code, output, seconds) once they have ended."""
        began = time.monotonic()
        self.job.signal(kind)
        code, output = self.end()
        return code, output, time.monotonic() - began


LONG = "--config.train.steps=1000000"
UNSAVED = LONG, "--config.train.checkpoint_every=1000"  # a save takes longer than an update
# many groups of tiles, each of which takes its time
VALIDATES = (
    *(LONG, "--config.data.validation_split=train", "--config.train.evaluate_every=3"),
    *("--config.sampling.steps=0", "--config.sampling.generations=8"),
)


KINDS = [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]  # one handler


@pytest.mark.parametrize(
    "fault, place, code",
    [
        *(("kill", 1, 137), ("kill", 0, 137), ("stop", 1, 134), ("raise", 1, 70)),
        pytest.param("raise", 0, 70, marks=pytest.mark.slow),
    ],
)
def test_when_one_is_lost_the_other_ends_and_the_last_line_says_which(
    folder, tmp_path, fault, place, code
):
    heartbeat = "--config.job.heartbeat_seconds=10"
    # a stopped process cannot end by itself: the launcher kills it
    grace = 5.0 if fault == "stop" else 40.0
    flags = *UNSAVED, heartbeat
    job = Running(folder, tmp_path, *flags, fault=fault, place=place, step=8, grace=grace)
    began = job.until("first update after")
    got, output = job.end()
    seconds = time.monotonic() - began
    print(f"{fault} of process {place}: all ended after {seconds:.1f} s with {got}")
    assert seconds < 45 * slack() and got == code, output[-3000:]
    if fault != "stop":
        assert f"local: process {place} of 2 ended with {code} (" in output
        other = [line for line in output.splitlines() if f"process {1 - place} of 2 ended" in line]
        assert other == [
            f"local: process {1 - place} of 2 ended with 134 (lost another process of the job)"
        ]
    assert output.splitlines()[-1].startswith(f"local: the job ended with {code} (")


def test_a_hung_process_is_found_and_its_line_is_named(folder, tmp_path):
    limit = round(8 * slack())  # what compiles is given ten times as long
    flags = *UNSAVED, f"--config.job.hang_seconds={limit}"
    job = Running(folder, tmp_path, *flags, fault="hang", place=1, step=12)
    began = job.until("first update after")
    code, output = job.end(6 * limit)
    print(f"hang: all ended after {time.monotonic() - began:.1f} s with {code}")
    assert code == errors.HUNG and time.monotonic() - began < 4 * limit, output[-3000:]
    assert re.search(r"\[1\] .* in hang_here", output)
    assert re.search(rf"\[1\] segdiff: hung: no progress for {limit} s since update \d+", output)


@pytest.mark.parametrize("kind", KINDS)
def test_two_signalled_save_one_update_and_the_same_command_goes_on(folder, tmp_path, kind):
    job = Running(folder, tmp_path, LONG)
    job.until("update 3 of")
    code, output, seconds = job.terminate(kind)
    print(f"{kind.name} to two processes: saved and ended after {seconds:.1f} s")
    assert seconds < 10 * slack() and code == 128 + kind, output[-3000:]
    saved = set(re.findall(r"segdiff: stopped at update (\d+)", output))
    assert len(saved) == 1 and (tmp_path / "checkpoints" / saved.pop()).is_dir()


@pytest.mark.parametrize("kind", KINDS)
def test_two_signalled_before_there_is_anything_to_save_end_at_once(folder, tmp_path, kind):
    job = Running(folder, tmp_path / "run", LONG, cache=tmp_path / "cache")
    job.until(r"(?s)(Finished jaxpr to MLIR module conversion jit\(train_step\).*){2}")
    code, output, seconds = job.terminate(kind)
    print(f"{kind.name} to two processes that compile the step: ended after {seconds:.1f} s")
    assert seconds < 10 and code == 128 + kind, output[-3000:]
    assert len(re.findall("segdiff: stopped before update 1 of", output)) == 2, output[-3000:]
    assert "Finished XLA compilation of jit(train_step)" not in output


@pytest.mark.parametrize("kind", KINDS)
def test_two_signalled_while_they_validate_save_and_do_not_finish_it(folder, tmp_path, kind):
    job = Running(folder, tmp_path, *VALIDATES)
    job.until(r"(?s)(Finished XLA compilation of jit\(sample_rows\).*){2}")
    code, output, seconds = job.terminate(kind)
    print(f"{kind.name} to two processes that validate: saved and ended after {seconds:.1f} s")
    assert seconds < 10 * slack() and code == 128 + kind, output[-3000:]
    assert len(re.findall("segdiff: stopped at update 3 of", output)) == 2, output[-3000:]
    assert (tmp_path / "checkpoints" / "3").is_dir() and "validation: " not in output


def test_a_signal_to_one_of_two_stops_both(folder, tmp_path):
    job = Running(folder, tmp_path, LONG)
    job.until("update 3 of")
    job.job.processes[1].send_signal(signal.SIGTERM)
    code, output = job.end()
    assert code == errors.TERMINATED, output[-3000:]
    assert len(re.findall("segdiff: stopped at update", output)) == 2


def differing(folder, *flags):
    """Returns (code, output) of a job whose process 1 has more flags."""
    odd = FAULTY.replace("runpy.run", f"sys.argv += {list(flags)!r} if me else []\nrunpy.run", 1)
    output = io.StringIO()
    job = Job(
        run_arguments(folder, folder / "differing", "--mode=train"),
        Layout(2),
        output,
        (sys.executable, "-u", "-c", odd),
        os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )
    return job.wait(30), output.getvalue()


def test_another_config_on_one_host_is_refused_before_compilation(folder):
    code, output = differing(folder, "--config.train.learning_rate=0.5")
    assert code == errors.USAGE, output[-3000:]
    assert "config.train.learning_rate is 0.5, not 0.001" in output
    assert "compiling" not in output and not Path(folder / "differing" / "config.json").exists()


def test_a_process_whose_peer_never_joins_ends_with_134(folder, tmp_path):
    output = io.StringIO()
    program = "import sys; me = sys.argv.pop(); sys.argv.append(me); " + FAULTY
    alone = program.replace("import os, runpy", "import time\nimport os, runpy", 1).replace(
        "runpy.run_module", "me and time.sleep(600)\nrunpy.run_module"
    )
    job = Job(
        [*run_arguments(folder, tmp_path, "--mode=train"), "--config.job.join_seconds=5"],
        Layout(2),
        output,
        (sys.executable, "-u", "-c", alone),
        os.environ,
    )
    code = job.wait(1)
    assert code == errors.PEER_LOST, output.getvalue()[-3000:]
    assert "process 0 of 2 at 127.0.0.1:" in output.getvalue()
    assert "waited 5 s and not all processes joined; start every one of them" in output.getvalue()


def start_by_hand(workdir, *places, seconds=8):
    """Starts main as process number `i` of `n`, once for each (i, n) of the places."""
    address = f"{HOST}:{free_port()}"
    flags = ["--config=configs/synthetic.py", f"--workdir={workdir}", "--mode=train"]
    flags += [f"--config.job.join_seconds={seconds}", f"--coordinator={address}"]
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "segdiff_jax.main", *flags),
                *(f"--process={process}", f"--processes={processes}"),
            ],
            cwd=ROOT,
            env=os.environ | {"JAX_COORDINATOR_BIND_ADDRESS": address},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for process, processes in places
    ]


def ends(processes):
    """Returns [(exit code, as a shell has it, output)] of the processes."""
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    codes = [process.returncode for process in processes]
    codes = [code if code >= 0 else 128 - code for code in codes]
    return list(zip(codes, outputs, strict=True))


@pytest.mark.parametrize("places", [[(0, 2)], [(1, 2)], [(0, 3), (2, 3)], [(0, 3), (1, 2)]])
def test_processes_whose_peers_do_not_join_in_time_end_with_134(tmp_path, places):
    """The last job has two processes of which the first was started for a third."""
    job = ends(start_by_hand(tmp_path / "run", *places))
    assert [code for code, _ in job] == [errors.PEER_LOST] * len(places), job
    messages = "".join(output for _, output in job)
    for process, processes in places:
        assert f"process {process} of {processes} at {HOST}:" in messages
    assert "waited 8 s and not all processes joined; start every one of them" in messages
    assert not (tmp_path / "run").exists()


def test_a_process_that_was_started_for_more_than_there_are_ends_the_job(tmp_path):
    job = ends(start_by_hand(tmp_path / "run", (0, 2), (1, 3), seconds=60))
    assert [code for code, _ in job] == [errors.USAGE] * 2, job
    lines = {output.splitlines()[-1] for _, output in job}
    assert len(lines) == 1 and "process 1 of 2 differs from process 0" in (line := lines.pop())
    assert "processes is 3, not 2" in line
    assert not (tmp_path / "run").exists()


def test_a_process_that_was_started_twice_does_not_stand_for_a_missing_one(tmp_path):
    """JAX aborts the earlier of the two; the others wait for the missing one."""
    job = ends(start_by_hand(tmp_path / "run", (0, 3), (1, 3), (1, 3)))
    assert [code for code, _ in job] == [errors.PEER_LOST] * 3, job
    assert not (tmp_path / "run").exists()


def trained(folder, workdir, *parts):
    """Trains in parts of (processes, devices of each, last update, flags): losses, state."""
    for processes, devices, last, *flags in parts:
        output, flags = io.StringIO(), (f"--config.train.steps={last}", *flags)
        job = Job(
            run_arguments(folder, workdir, "--mode=train", *flags),
            Layout(processes, devices),
            output,
            environment=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        )
        assert job.wait() == 0, output.getvalue()[-3000:]
    return losses(workdir), jax.tree.leaves(final_state(folder, workdir))


PMAP = "--config.train.map=pmap"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(2, 1, 6)], id="2x1", marks=pytest.mark.slow),  # the turns have its updates
        pytest.param([(2, 1, 2), (1, 2, 3), (2, 1, 6, PMAP)], id="2x1, 1x2, 2x1 by pmap"),
    ],
)
def test_two_processes_learn_what_one_of_two_devices_learns_also_in_turns(folder, tmp_path, parts):
    one = trained(folder, tmp_path / "one", (1, 2, 6))
    seen, state = trained(folder, tmp_path / "two", *parts)
    assert seen == one[0] and len(seen) == 6
    assert all(map(np.array_equal, state, one[1]))
    print(f"1x2 against {parts}: losses and states bit-equal after 6 updates")
