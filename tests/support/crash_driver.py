"""Saves a checkpoint repeatedly, and interrupts each save at another file operation.

  LD_PRELOAD=crash_point.so python crash_driver.py TEMPLATE SCRATCH ERROR EVERY FIRST

Prints one line of JSON for each crash point. Every save, and every check of what it left, runs in a
child process, forked before jax has started a thread.
"""

import ctypes
import faulthandler
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

from checkpoint_files import restored, state, step_of

from segdiff_jax.checkpoint.manager import Checkpoints

SHIM = ctypes.CDLL(None)
DONE, FAILED = 0, 3
LIMIT = 60  # seconds; a save that hangs is a fault too


def in_child(function, *arguments):
    """Runs a function in a child process; returns its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about forks and threads
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    try:
        code = function(*arguments) or DONE
    except BaseException as error:
        print(f"{type(error).__name__}: {error}"[:300], file=sys.stderr)
        (arguments[0] / "error").write_text(f"{type(error).__name__}: {error}"[:1000])
        code = FAILED
    os._exit(code)


def save(directory, step, point, error):
    """Saves a step, which deletes the oldest of three; writes the number of file operations."""
    checkpoints = Checkpoints(directory)
    SHIM.crash_at(point, error)
    checkpoints.save(step, *state(step), None)
    checkpoints.close()
    operations = SHIM.crash_count()
    SHIM.crash_at(0, 0)
    (directory / "operations").write_text(str(operations))


def check(directory):
    """Restores the newest state, saves the next, and checks that nothing half-written is left."""
    step = step_of(restored(directory))
    (directory / "restored").write_text(str(step))
    save(directory, 40, 0, 0)
    assert step_of(restored(directory)) == 40
    left = {path.name for path in (directory / "checkpoints").iterdir()}
    assert left == {str(step), "40"}, left


def main(template, scratch, error, every, first):
    total = point = 1 if first == 0 else first
    while point <= total:
        directory = shutil.copytree(template, scratch / str(point))
        code = in_child(save, directory, 30, point, error)
        said = (directory / "operations").exists()
        whole = in_child(check, directory)
        found = directory / "restored"
        row = {
            "point": point,
            "code": code,
            "said it was saved": said,
            "resumed": whole == DONE,
            # of the check, if that failed, otherwise of the save
            "error": (directory / "error").read_text() if (directory / "error").exists() else "",
            "step": int(found.read_text()) if found.exists() else None,
        }
        print(json.dumps(row), flush=True)
        if said and code == DONE:
            break  # the save is over before this point
        shutil.rmtree(directory)
        point += every
        total = point


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
