"""Memory of the host that was used once stays with the process.

On CPU every execution of a compiled program asks the C library for its working memory and gives it
back. By default that is returned to the system each time, which must clear it page by page at the
next update: a seventh of a training step's processor time went there (docs/performance.md).
"""

import ctypes
import sys

# of glibc's malloc.h
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8


def keep_freed() -> bool:
    """Makes glibc keep what is freed, in one heap for all threads; returns whether it is glibc.

    The process then stays as large as it ever was.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = {ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**26}
    return all([mallopt(option, value) for option, value in options.items()])
