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

from segdiff_jax.errors import HUNG

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


class _Watch:
    """Holds the latest sign of progress, and the time until the next must follow."""

    def __init__(self, limit: float, coordinator: bool) -> None:
        self.limit, self.coordinator = limit, coordinator
        self.ended = threading.Event()
        self.note("the start", COMPILATION_FACTOR)

    def note(self, what: str, factor: float) -> None:
        self.latest = time.monotonic(), what, factor * self.limit

    def check_repeatedly(self) -> None:
        while not self.ended.wait(min(1.0, self.limit / 10)):
            since, what, allowed = self.latest
            if time.monotonic() - since > allowed:
                faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
                message = f"hung: no progress for {allowed:g} s since {what}; all stacks are above"
                exit_now(message, HUNG, self.coordinator)


_watches: list[_Watch] = []


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
    watch = _Watch(seconds, coordinator)
    thread = threading.Thread(target=watch.check_repeatedly, name="watchdog", daemon=True)
    _watches.append(watch)
    thread.start()
    try:
        yield
    finally:
        watch.ended.set()
        _watches.remove(watch)
        thread.join()


def heartbeat(what: str) -> None:
    """Reports progress, such as "update 3"; does nothing without a watchdog."""
    for watch in _watches:
        watch.note(what, 1)


def expect_compilation(what: str) -> None:
    """Allows more time until the next heartbeat, since what begins may compile."""
    for watch in _watches:
        watch.note(what, COMPILATION_FACTOR)
