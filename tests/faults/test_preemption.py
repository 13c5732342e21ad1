"""A signal at any phase of a program: how soon it ends, with which code, and what it saved."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from job_processes import prepare, run_arguments
from PIL import Image
from tiny_config import ROOT, slack, tiny, write_run

pytestmark = pytest.mark.fault

LIMIT = 10  # seconds that a machine which is taken away leaves at least, if it is ours alone

# SIGINT must work also where the tests run in the background, where shells ignore it
PROGRAMME = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)
"""
# what jax logs between tracing a program and compiling it, and when it is compiled
COMPILES = r"Finished jaxpr to MLIR module conversion jit\({}\)"
COMPILED = r"Finished XLA compilation of jit\({}\)"
ANSWERS = COMPILED.format("sample_rows")
SLOW = "--config.sampling.steps=0", "--config.sampling.generations=16"
SELDOM = "--config.train.checkpoint_every=1000"  # what is there then was saved for the signal
LONG = "--mode=train", "--config.train.steps=1000000"
VALIDATES = *LONG, "--config.data.validation_split=validation", "--config.train.evaluate_every=3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, synthetic_set):
    folder = prepare(tmp_path_factory.mktemp("preemption"), synthetic_set)
    write_run(tiny(), folder / "trained", step=7)
    Image.new("RGB", (40, 30)).save(folder / "new.png")
    return folder


class Running:
    """Holds a running program and its output so far."""

    def __init__(self, module, arguments, workdir, log, cache):
        self.workdir, self.log = workdir, log
        environment = os.environ | {"JAX_LOG_COMPILES": "1"}
        if cache is not None:  # a new one: everything is compiled
            environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        else:
            environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAMME, module, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def said(self, pattern):
        return re.search(pattern, self.log.read_text())

    def until(self, there):
        """Waits until `there(self)` is true."""
        deadline = time.monotonic() + 300
        while not there(self):
            assert self.process.poll() is None and time.monotonic() < deadline, self.tail()
            time.sleep(0.005)

    def tail(self):
        return self.log.read_text()[-3000:]


def says(pattern):
    return lambda running: running.said(pattern)


def imports_jax(running):
    return "jaxlib" in Path(f"/proc/{running.process.pid}/maps").read_text()


def saves(running):
    return list(running.workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))


class Phase(NamedTuple):
    """A phase of a program, and how it is recognized.

    Attributes:
      module: of the program.
      flags: its arguments, besides its paths.
      begun: whether it has begun.
      after: output at the end of the phase, which must be missing where it was interrupted.
      cold: whether nothing is compiled yet.
    """

    module: str
    flags: tuple[str, ...]
    begun: Callable[["Running"], object]
    after: str = "(?!)"
    cold: bool = False


def compiles(module, flags, program):
    return Phase(module, flags, says(COMPILES.format(program)), COMPILED.format(program), cold=True)


PHASES = {
    "importing": Phase("main", LONG, imports_jax, "training on"),
    "compiling the weights": compiles("main", LONG, "initial_state"),
    "compiling the step": compiles("main", LONG, "train_step"),
    "making an update": Phase("main", (*LONG, SELDOM), says("update 3 of")),
    "saving": Phase("main", (*LONG, "--config.train.checkpoint_every=1"), saves),
    "compiling the validation": compiles("main", VALIDATES, "sample_rows"),
    "validating": Phase("main", (*VALIDATES, *SLOW), says(ANSWERS), "validation: "),
    "compiling the evaluation": compiles("main", ("--mode=evaluate",), "sample_rows"),
    "evaluating": Phase("main", ("--mode=evaluate", *SLOW), says(ANSWERS), "test: "),
    "compiling a prediction": compiles("predict", (), "sample_rows"),
}
# slow: the handler is the same, and so is the program of an evaluation
SLOW_PHASES = [
    (signal.SIGTERM, "compiling the validation"),
    *((signal.SIGINT, f"compiling the {what}") for what in ("step", "validation")),
    (signal.SIGINT, "making an update"),
]
QUICK_PHASES = [(signal.SIGTERM, phase) for phase in PHASES if phase != SLOW_PHASES[0][1]]


def started(folder, tmp_path, phase):
    """Returns a program that is in the phase."""
    workdir, cache = tmp_path / "run", tmp_path / "cache" if phase.cold else None
    if phase.module == "predict":
        places = {"workdir": folder / "trained", "input": folder / "new.png", "output": workdir}
        arguments = [f"--{name}={place}" for name, place in places.items()]
    else:
        workdir = folder / "trained" if "--mode=evaluate" in phase.flags else workdir
        arguments = run_arguments(folder, workdir, *phase.flags)
    running = Running(
        f"segdiff_jax.{phase.module}", arguments, workdir, tmp_path / "log.txt", cache
    )
    try:
        running.until(phase.begun)
    except BaseException:
        running.process.kill()  # one that never gets there is not left beside the other tests
        running.process.wait()
        raise
    return running


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        *QUICK_PHASES,
        (signal.SIGINT, "importing"),
        *(pytest.param(*phase, marks=pytest.mark.slow) for phase in SLOW_PHASES),
    ],
)
def test_a_signal_ends_any_phase_within_seconds_and_loses_nothing(folder, tmp_path, kind, phase):
    running = started(folder, tmp_path, PHASES[phase])
    began = time.monotonic()
    running.process.send_signal(kind)
    try:
        code = running.process.wait(100)
    finally:
        running.process.kill()
    seconds, output = time.monotonic() - began, running.log.read_text()
    busy = slack()
    shared = f" on a machine shared by {busy:.0f}" if busy > 1.5 else ""
    print(f"{kind.name} while {phase}: ended after {seconds:.1f} s with {code}{shared}")
    assert code == 128 + kind and seconds < LIMIT * busy, output[-3000:]
    assert not re.search(PHASES[phase].after, output) and "Traceback" not in output, output[-3000:]
    kept = re.search(r"segdiff: stopped at update (\d+) of", output)
    update = max([int(n) for n in re.findall(r"\d update (\d+) of", output)], default=0)
    if update:
        assert kept and int(kept[1]) >= update, output[-3000:]
        assert (running.workdir / "checkpoints" / kept[1]).is_dir()
    else:
        assert not kept and output.splitlines()[-1].startswith("segdiff: "), output[-3000:]
