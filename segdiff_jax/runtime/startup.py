"""When Python looks for garbage: rarely while a programme starts.

Tracing a network makes hundreds of thousands of objects that stay, and looking through them again
and again takes almost a tenth of a second start (docs/performance.md). Afterwards as usual, so that
nothing large is kept by a cycle.
"""

import gc
import os
import re
import sys
from pathlib import Path

USUAL = gc.get_threshold()


RARE = 200_000  # objects more than before


def relax_gc() -> None:
    """Lets the process make many more objects between two looks."""
    gc.set_threshold(RARE, *USUAL[1:])


def restore_gc() -> None:
    """Undoes `relax_gc`."""
    gc.set_threshold(*USUAL)


TUNABLES = "GLIBC_TUNABLES"  # a variable of the environment


BEFORE = "SEGDIFF_TUNABLES_BEFORE"  # another: what the first was, in a process that was restarted


SETTING = "glibc.malloc.hugetlb"


OLDEST = 2, 35  # glibc that knows the setting


PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def reexec_with_huge_pages() -> None:
    """Starts this process anew, with the same words and number, where large pages are to be had.

    Returns otherwise: on other systems, where all memory or none comes in large pages anyway, where
    the user has set `glibc.malloc.hugetlb` (0 turns it off), and in the process that was restarted.
    """
    before = os.environ.get(TUNABLES, "")
    if (
        BEFORE in os.environ
        or SETTING in before
        or not sys.executable
        or not huge_pages_available()
    ):
        return
    os.environ[BEFORE] = before
    os.environ[TUNABLES] = f"{before}:{SETTING}=1".lstrip(":")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def huge_pages_available() -> bool:
    """Whether this system gives large pages to those who ask, and glibc can ask."""
    try:
        version = re.fullmatch(r"glibc (\d+)\.(\d+).*", os.confstr("CS_GNU_LIBC_VERSION") or "")
        asked = "[madvise]" in PAGES.read_text()
    except (AttributeError, OSError, ValueError):  # another system
        return False
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST and asked
