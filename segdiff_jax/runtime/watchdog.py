"""Ends processes that cannot end by themselves: a watchdog for hangs, and an immediate exit.

JAX's heartbeat detects processes that died, not those that hang: on a disk, in a deadlock, or
because of a peer that does. A thread checks the time since the last sign of progress. Whatever
blocks the run does not block that thread, unless it holds Python's global lock.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from segdiff_jax.errors import HUNG, TERMINATED

LAUNCHED = "SEGDIFF_LAUNCHED_BY"  # environment variable
COMPILATION_FACTOR = 10  # compilation shows no progress: its limit is this many times as long
# The coordinator exits last: without it JAX aborts the others before they have written why.
COORDINATOR_DELAY = 3.0


def exit_now(message: str, code: int, coordinator: bool = False) -> NoReturn:
    """Exits from any thread, without atexit handlers and JAX's shutdown barrier.

    An orderly exit waits for all processes of the job, which may be waiting for this one. They
    detect the loss.

    Args:
      message: one line for stderr; "": none.
      code: the exit code.
      coordinator: whether this is process 0 of several; it exits `COORDINATOR_DELAY` later.
    """
    with contextlib.suppress(OSError):  # whoever read them may be gone
        if message:
            os.write(2, f"segdiff: {message}\n".encode())
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    if coordinator:
        time.sleep(COORDINATOR_DELAY)
    os._exit(code)


@contextlib.contextmanager
def call_after(seconds: float, action: Callable[[], object]) -> Iterator[None]:
    """Calls the action, in a thread, if the block takes longer than `seconds`."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def exit_after(seconds: float, message: str, code: int) -> None:
    """Exits in so many seconds, if the program has not ended by itself."""
    timer = threading.Timer(seconds, exit_now, (message, code))
    timer.daemon = True
    timer.start()


def exit_with_launcher() -> None:
    """Exits as soon as the launcher that started this process is gone, even by kill -9.

    It holds the other end of stdin, and says so by `LAUNCHED`; the system closes it.
    """
    if os.environ.get(LAUNCHED) != "stdin":
        return

    def wait() -> None:
        while os.read(0, 4096):
            pass
        exit_now("the launcher is gone", TERMINATED)

    threading.Thread(target=wait, name="launcher", daemon=True).start()


_latest: tuple[float, str, float] = (0, "", 1)  # sign of progress: when, what, factor of the limit


@contextlib.contextmanager
def watch(seconds: float, coordinator: bool = False) -> Iterator[None]:
    """Exits with code 142 and the stacks of all threads when the block makes no progress.

    Args:
      seconds: the longest time between two calls of `heartbeat`; `COMPILATION_FACTOR` times as
        long before the first and after `expect_compilation`. 0: no watchdog.
      coordinator: as for `exit_now`.
    """
    if not seconds:
        yield
        return
    ended = threading.Event()
    expect_compilation("the start")
    arguments = ended, seconds, coordinator
    thread = threading.Thread(target=_check, args=arguments, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _check(ended: threading.Event, seconds: float, coordinator: bool) -> None:
    while not ended.wait(min(1.0, seconds / 10)):
        since, what, factor = _latest
        if time.monotonic() - since > factor * seconds:
            faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
            silent = f"no progress for {factor * seconds:g} s since {what}"
            exit_now(f"hung: {silent}; all stacks are above", HUNG, coordinator)


def heartbeat(what: str, factor: float = 1) -> None:
    """Reports progress, such as "update 3"; the limit of the next one is multiplied by `factor`."""
    global _latest
    _latest = time.monotonic(), what, factor


def expect_compilation(what: str) -> None:
    """Allows more time until the next heartbeat, since what begins may compile."""
    heartbeat(what, COMPILATION_FACTOR)
