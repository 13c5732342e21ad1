"""How a process ends when it cannot wait: for others of its job, or for threads of its own."""

import os
import sys
import time
from typing import NoReturn

# The coordinator ends last, or JAX would abort the others before they have said why they end.
COORDINATOR_WAITS = 3.0


def exit_now(message: str, code: int, coordinator: bool = False) -> NoReturn:
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
