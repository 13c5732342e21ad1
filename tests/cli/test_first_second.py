"""SIGTERM and SIGINT end a program with their codes whenever they come; no launcher leaves it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from tiny_config import ROOT, slack

from segdiff_jax import errors

CONFIG = ["--config=configs/synthetic.py", "--workdir=/proc/none", "--mode=train"]
AFTER = (0.1, 0.4, 1.0, 2.0)  # seconds


def test_sigterm_in_the_first_seconds_ends_with_its_code():
    """Before the package is imported the system ends Python, which a shell reports alike."""
    argv = [sys.executable, "-m", "segdiff_jax.main", *CONFIG]
    started = [(time.monotonic() + after * slack(), start(argv)) for after in AFTER]
    for moment, process in started:
        time.sleep(max(0.0, moment - time.monotonic()))
        process.terminate()
    for _, process in started:
        said = process.communicate(timeout=60 * slack())[1]
        if process.returncode != errors.CANNOT_WRITE:  # it had ended before
            assert process.returncode in (errors.TERMINATED, -signal.SIGTERM)
            assert said in ("", "segdiff: terminated\n") or "work directory: " in said
        assert "Traceback" not in said


def start(argv):
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def test_a_signal_while_the_program_restarts_and_imports_is_not_lost():
    """It comes when the first line of the package has run, before anything else is imported."""
    code = (
        "import os, signal, sys; sys.argv = ['-m']; import segdiff_jax; "
        "os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(30)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (errors.TERMINATED, "segdiff: terminated\n")
    blocked = (
        "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); "
        "os.kill(os.getpid(), 15); sys.argv = ['/x/segdiff']; import segdiff_jax"
    )
    done = subprocess.run([sys.executable, "-c", blocked], cwd=ROOT, capture_output=True)
    assert done.returncode == errors.TERMINATED


def test_the_package_as_a_library_changes_no_handler():
    code = "import signal; import segdiff_jax; assert signal.getsignal(15) == signal.SIG_DFL"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


CHILD = (
    "import os, time; from segdiff_jax.cli import app; "
    "app.start(lambda argv: (print('up', os.getpid(), flush=True), time.sleep(100)))"
)
LAUNCHER = (
    "import sys; sys.path.insert(0, 'launch'); import local; "
    f"local.Job([], local.Layout(2), program=[sys.executable, '-c', {CHILD!r}]).wait()"
)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_launcher_that_is_killed_leaves_no_children(number):
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    children = []
    while len(children) < 2:
        line = launcher.stdout.readline()
        assert line
        children += [int(line.split()[2])] if " up " in line else []
    launcher.send_signal(number)
    launcher.communicate()
    deadline = time.monotonic() + 10 * slack()
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, children))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
