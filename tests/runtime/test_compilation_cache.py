"""The cache of compiled programs: whole entries, and short ones that are replaced."""

import os
import subprocess
import sys
import time

import pytest
from tiny_config import ROOT

from segdiff_jax.errors import UserError
from segdiff_jax.runtime import compilation_cache, files
from segdiff_jax.runtime.compilation_cache import WholeEntries

WITHOUT_LIMIT, LARGE = -1, 10**6


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.endswith("-cache"))


@pytest.mark.parametrize("max_size", [WITHOUT_LIMIT, LARGE])
def test_what_is_stored_replaces_what_is_there(tmp_path, max_size):
    cache = WholeEntries(str(tmp_path), max_size=max_size)
    assert cache.get("a") is None
    for value in (b"x" * 100, b"short", b"y" * 100):
        cache.put("a", value)
        assert cache.get("a") == value
    assert entries(tmp_path) == ["a-cache"]


def test_a_write_that_does_not_end_leaves_the_entry_before(tmp_path, monkeypatch):
    cache = WholeEntries(str(tmp_path), max_size=WITHOUT_LIMIT)
    cache.put("a", b"whole")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", no_space)
    with pytest.raises(UserError, match="No space left"):  # JAX warns of whatever it raises
        cache.put("a", b"later")
    assert cache.get("a") == b"whole" and entries(tmp_path) == ["a-cache"]
    assert [path.name for path in tmp_path.iterdir()] == ["a-cache"]


def test_what_a_killed_process_was_writing_is_removed_after_an_hour(tmp_path):
    old, new = tmp_path / ".a-cache.host.1.tmp", tmp_path / ".b-cache.host.2.tmp"
    for path in (old, new, tmp_path / "c-cache"):
        path.write_bytes(b"part")
    before = time.time() - compilation_cache.ABANDONED_SECONDS - 1
    os.utime(old, (before, before))
    os.utime(tmp_path / "c-cache", (before, before))
    WholeEntries(str(tmp_path), max_size=WITHOUT_LIMIT)
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, "c-cache"]


# Starts again and again in one process, with one program, and prints what it took from the cache.
STARTS = """
import sys, warnings
import jax, jax.numpy as jnp
from jax._src import compilation_cache as of_jax
from segdiff_jax.runtime import compilation_cache
from pathlib import Path

compilation_cache.MIN_COMPILE_SECONDS = 0.0
compilation_cache.enable()
folder, seen = Path(sys.argv[1]), []
jax.monitoring.register_event_listener(lambda event, **_: seen.append(event.rpartition('/')[2]))

def start(what):
    jax.clear_caches()
    of_jax.reset_cache()
    seen.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((4, 4)))
    print(what, seen.count('cache_hits'), seen.count('cache_misses'), len(caught), sep=',')

start('first')
start('again')
for entry in folder.glob('*-cache'):
    entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
start('short')
start('mended')
"""


def test_a_truncated_entry_costs_one_compilation_once(tmp_path):
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("JAX_PERSISTENT")},
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    words = [sys.executable, "-c", STARTS, str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split(",") for line in done.stdout.splitlines()]
    found = {name: [int(number) for number in numbers] for name, *numbers in rows}
    print(f"hits, compilations, warnings: {found}")
    programs = found["first"][1]
    assert programs > 0 and found["first"] == [0, programs, 0]
    assert found["again"] == [programs, 0, 0]
    assert found["short"] == [0, programs, programs]
    assert found["mended"] == [programs, 0, 0]
