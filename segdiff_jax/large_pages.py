"""Large pages for the arrays of a CPU: an update is up to a fifth faster (docs/performance.md).

XLA asks glibc for its working memory anew at every execution and gives it back afterwards. Linux
hands it over in pages of 4 kB, each at its first touch: hundreds of thousands of interruptions an
update. glibc asks for pages of 2 MB where a tunable says so, which it reads when a process starts.
So a programme that has not begun yet starts itself anew.
"""

import os
import re
import sys
from pathlib import Path

TUNABLES = "GLIBC_TUNABLES"  # a variable of the environment
BEFORE = "SEGDIFF_TUNABLES_BEFORE"  # another: what the first was, in a process that was restarted
SETTING = "glibc.malloc.hugetlb"
OLDEST = 2, 35  # glibc that knows the setting
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use() -> None:
    """Starts this process anew, with the same words and number, where large pages are to be had.

    Returns otherwise: on other systems, where all memory or none comes in large pages anyway, where
    the user has set `glibc.malloc.hugetlb` (0 turns it off), and in the process that was restarted.
    """
    before = os.environ.get(TUNABLES, "")
    if BEFORE in os.environ or SETTING in before or not sys.executable or not available():
        return
    os.environ[BEFORE] = before
    os.environ[TUNABLES] = f"{before}:{SETTING}=1".lstrip(":")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def available() -> bool:
    """Whether this system gives large pages to those who ask, and glibc can ask."""
    try:
        version = re.fullmatch(r"glibc (\d+)\.(\d+).*", os.confstr("CS_GNU_LIBC_VERSION") or "")
        asked = "[madvise]" in PAGES.read_text()
    except (AttributeError, OSError, ValueError):  # another system
        return False
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST and asked
