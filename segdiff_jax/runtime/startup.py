"""Restarts the program with huge pages, before jax is imported.

XLA allocates the arrays of a CPU with malloc. Huge pages spare a training step there most of its
page faults (docs/performance_log.md), but glibc reads the setting only when a process starts. The
switch is that setting: with `GLIBC_TUNABLES=glibc.malloc.hugetlb=0` the program does not restart.
"""

import contextlib
import os
import re
import signal
import sys
from pathlib import Path

ENDINGS = (signal.SIGTERM, signal.SIGINT)
TUNABLES = "GLIBC_TUNABLES"  # environment variable
BEFORE = "SEGDIFF_TUNABLES_BEFORE"  # environment variable: TUNABLES before the restart
SETTING = "glibc.malloc.hugetlb"
OLDEST_GLIBC = 2, 35  # with the setting
POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def reexec_with_huge_pages() -> None:
    """Replaces this process by the same command with huge pages, keeping the process id.

    Returns on systems without them, where all memory or none has huge pages anyway, where the user
    has set `glibc.malloc.hugetlb`, and in the process that was restarted.
    """
    before = os.environ.get(TUNABLES, "")
    chosen = BEFORE in os.environ or SETTING in before
    if chosen or not sys.executable or not huge_pages_available():
        return
    if hasattr(signal, "pthread_sigmask"):  # the old handlers end here; see `end_on_signals`
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    os.environ[BEFORE] = before
    os.environ[TUNABLES] = f"{before}:{SETTING}=1".lstrip(":")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def end_on_signals() -> None:
    """Lets SIGTERM and SIGINT end this process with 143 and 130 until `cli.app` handles them.

    Only where it runs a program of this package, which imports others for a second; a library
    changes no handler. Signals that were blocked during a restart come now, whatever is run.
    """
    program = Path(sys.argv[0] if sys.argv else "").name
    if program == "-m" or program.removesuffix(".exe") == "segdiff":
        with contextlib.suppress(ValueError):  # not in the main thread
            for number in ENDINGS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, end)
    if hasattr(signal, "pthread_sigmask"):  # also of a program that another one runs
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


def is_importing() -> bool:
    """Whether a library is being imported: an exception may abort C extensions in its midst."""
    modules = [
        m for name, m in [*sys.modules.items()] if not name.startswith(("segdiff", "__main"))
    ]
    return any(getattr(getattr(m, "__spec__", None), "_initializing", False) for m in modules)


def end(number: int, _: object) -> None:
    """Ends this process at once with the exit code of a signal, and one line."""
    os.write(2, b"segdiff: terminated\n" if number == signal.SIGTERM else b"segdiff: interrupted\n")
    os._exit(128 + number)


def huge_pages_available() -> bool:
    """Whether the system gives huge pages on request, and glibc can request them."""
    try:
        version = re.fullmatch(r"glibc (\d+)\.(\d+).*", os.confstr("CS_GNU_LIBC_VERSION") or "")
        on_request = "[madvise]" in POLICY.read_text()
    except (AttributeError, OSError, ValueError):  # another system
        return False
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST_GLIBC and on_request
