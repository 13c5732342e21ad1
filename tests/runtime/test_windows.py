"""The package imports where Windows differs from Linux, as far as Linux can show it."""

import subprocess
import sys

from tiny_config import ROOT

RUNTIME = sorted(path.stem for path in (ROOT / "segdiff_jax" / "runtime").glob("[a-z]*.py"))
# what is installed is built for this system, so it is imported before the system changes
WINDOWS = """
import ctypes, importlib, os, signal, sys
import absl.logging, filelock, jax, jax.experimental.multihost_utils, numpy

for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("confstr", "fork", "getuid", "killpg", "pread", "pwrite", "sched_getaffinity"):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGSTOP", "SIGUSR1", "pthread_kill"):
    delattr(signal, name)
load = ctypes.CDLL

class CDLL(load):
    def __init__(self, name, *more, **named):
        if name is None:
            raise TypeError("Windows has no library of the process itself")
        super().__init__(name, *more, **named)

ctypes.CDLL = CDLL
sys.platform = "win32"
"""


def test_all_modules_of_runtime_import_without_what_windows_lacks():
    imports = [f"importlib.import_module('segdiff_jax.runtime.{name}')" for name in RUNTIME]
    program = "\n".join([WINDOWS, *imports])
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_signals_and_locks_work_without_what_windows_lacks(tmp_path):
    program = f"""{WINDOWS}
from pathlib import Path
from segdiff_jax.errors import TerminatedError
from segdiff_jax.runtime import lock, signals, startup

startup.reexec_with_huge_pages()
with lock.locked(Path(sys.argv[1])):
    assert lock.owner(Path(sys.argv[1])) is not None
try:
    with signals.raise_on_signal():
        signal.raise_signal(signal.SIGTERM)
except TerminatedError:
    print("terminated")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    assert done.stdout.split() == [b"terminated"]
