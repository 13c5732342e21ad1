"""Finds a run that hangs: where everything stands is written out, and the process ends.

JAX notices a process that died, not one that waits for ever: for a disk, a lock, or a peer that
does. A thread looks at when the run last said that it is alive; it cannot be blocked by what blocks
the run, unless that keeps Python's lock.
"""

import contextlib
import faulthandler
import sys
import threading
import time
from collections.abc import Iterator

from segdiff_jax.errors import HUNG
from segdiff_jax.runtime import exit

# Compilation shows no progress, so whatever may compile is given this many times as long.
PATIENCE = 10


class _Watch:
    """When the run was last alive, what it was at, and how long that may take."""

    def __init__(self, limit: float, coordinator: bool) -> None:
        self.limit, self.coordinator = limit, coordinator
        self.ended = threading.Event()
        self.note("the start", PATIENCE)

    def note(self, what: str, times: float) -> None:
        self.latest = time.monotonic(), what, times * self.limit

    def look(self) -> None:
        while not self.ended.wait(min(1.0, self.limit / 10)):
            since, what, allowed = self.latest
            if time.monotonic() - since > allowed:
                self.end(what, allowed)

    def end(self, what: str, allowed: float) -> None:
        faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
        message = f"hung: no progress for {allowed:g} s since {what}; all stacks are above"
        exit.exit_now(message, HUNG, self.coordinator)


_watches: list[_Watch] = []


@contextlib.contextmanager
def watch(seconds: float, coordinator: bool = False) -> Iterator[None]:
    """Ends the process with code 142 and all stacks when what is inside makes no progress.

    Args:
      seconds: longest time between two calls of `heartbeat`; ten times as long before the first and
        after `expect_compilation`. 0: it is not watched.
      coordinator: this is process 0 of several, and ends a little after them.
    """
    if not seconds:
        yield
        return
    watch = _Watch(seconds, coordinator)
    thread = threading.Thread(target=watch.look, name="watchdog", daemon=True)
    _watches.append(watch)
    thread.start()
    try:
        yield
    finally:
        watch.ended.set()
        _watches.remove(watch)
        thread.join()


def heartbeat(what: str) -> None:
    """Says that something was finished, such as "update 3"; does nothing if nobody watches."""
    for watch in _watches:
        watch.note(what, 1)


def expect_compilation(what: str) -> None:
    """Says that something begins that may compile for long."""
    for watch in _watches:
        watch.note(what, PATIENCE)
