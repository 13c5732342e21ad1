"""How a process of a job ends when it cannot wait for the others."""

import os
import sys
import time
from concurrent.futures import Future
from typing import NoReturn

# The coordinator ends last, or JAX would abort the others before they have said why they end.
COORDINATOR_WAITS = 3.0

_abandoned: list[Future] = []


def abandon(work: Future) -> None:
    """Takes note of work in a thread that nobody waits for any more, and that nothing can stop."""
    _abandoned.append(work)


def left_over() -> bool:
    """Whether such work still goes on: then an orderly exit crashes, or waits for it."""
    return not all(work.done() for work in _abandoned)


def at_once(message: str, code: int, coordinator: bool = False) -> NoReturn:
    """Ends the process without a word to the others, who notice; works in any thread.

    An orderly exit would wait for all of them, and they may be waiting for this one.

    Args:
      message: one line for stderr; "": it was said already.
      code: the exit code.
      coordinator: this is process 0, which the others lose more by.
    """
    if message:
        os.write(2, f"segdiff: {message}\n".encode())
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if coordinator:
        time.sleep(COORDINATOR_WAITS)
    os._exit(code)
