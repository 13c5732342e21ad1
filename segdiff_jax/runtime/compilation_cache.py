"""Keeps JAX's cache of compiled programs whole.

JAX writes an entry in place, and never replaces one that exists. A process that is killed while it
writes, or a full disk, leaves a part of an entry that every later start reads, warns of, and
compiles again. Here an entry gets its name once it is complete, and replaces what has that name: a
program is stored only after JAX found no entry that it could use.
"""

import os
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import jax
from jax._src import compilation_cache
from jax._src.lru_cache import LRUCache

from segdiff_jax.runtime import files

DIRECTORY = "~/.cache/segdiff_jax/xla"
VARIABLE = "JAX_COMPILATION_CACHE_DIR"  # of the environment: another directory
MIN_COMPILE_SECONDS = 0.5  # of programs that are worth an entry
ABANDONED_SECONDS = 3600  # a file that has been written for so long is of a killed process


def enable() -> None:
    """Turns the cache of compiled programs on, in the user's cache if no variable names another."""
    if VARIABLE not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(DIRECTORY).expanduser()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    of_jax: Any = compilation_cache
    of_jax.LRUCache = WholeEntries  # the class of which JAX makes its cache


class WholeEntries(LRUCache):
    """Stores programs as JAX does, but every entry in one move; not in a bucket, which does so."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, **options)
        if "://" not in path:
            remove_abandoned(Path(path))

    def put(self, key: str, value: bytes) -> None:
        """Stores an entry under its key, in place of one that is there."""
        if "://" in str(self.path):
            return super().put(key, value)
        entry = Path(self.path) / f"{key}-cache"
        with self.lock if self.eviction_enabled else nullcontext():
            if self.eviction_enabled:  # the user limits the size of the cache
                entry.unlink(missing_ok=True)
                return super().put(key, value)
            files.write_bytes(entry, value)


def remove_abandoned(folder: Path) -> None:
    """Removes what killed processes were writing."""
    for partial in folder.glob(".*-cache.*.tmp"):
        with suppress(OSError):  # another process does the same
            if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                partial.unlink()
