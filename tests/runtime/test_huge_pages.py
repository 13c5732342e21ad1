"""A programme starts itself anew for large pages, once, as it was started."""

import json
import os
import subprocess
import sys

import pytest
from tiny_config import ROOT

from segdiff_jax.runtime import startup

needed = pytest.mark.skipif(
    not startup.huge_pages_available(), reason="no large pages for who asks"
)

PROGRAMME = """
import json, os, resource, sys
from pathlib import Path
from segdiff_jax.runtime import startup
startup.PAGES = Path(os.environ.get("PAGES", startup.PAGES))
print("begun", os.getpid(), flush=True)
startup.reexec_with_huge_pages()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    b"x" * 2**27  # given back at once
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([sys.argv, faults, os.environ.get("GLIBC_TUNABLES")]))
"""


def run(**environment):
    """Returns (numbers of the processes that began, words, page faults, GLIBC_TUNABLES)."""
    clean = {k: v for k, v in os.environ.items() if k not in (startup.BEFORE, "GLIBC_TUNABLES")}
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", PROGRAMME, "--a=b c", ""],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    *begun, last = done.stdout.splitlines()
    return begun, *json.loads(last)


@needed
def test_a_programme_starts_anew_once_with_its_words_and_its_number_and_has_large_pages():
    begun, words, faults, tunables = run()
    assert len(begun) == 2 and begun[0] == begun[1] and words == ["-c", "--a=b c", ""]
    assert tunables == "glibc.malloc.hugetlb=1"
    assert faults < 20_000  # of 131,072 small pages


@needed
def test_who_has_decided_is_left_alone_and_other_tunables_stay():
    begun, _, faults, tunables = run(GLIBC_TUNABLES="glibc.malloc.hugetlb=0")
    assert len(begun) == 1 and faults > 100_000 and tunables == "glibc.malloc.hugetlb=0"
    begun, _, faults, tunables = run(GLIBC_TUNABLES="glibc.malloc.arena_max=2")
    assert len(begun) == 2 and faults < 20_000
    assert tunables == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("setting", ["[always] madvise never", "always madvise [never]", None])
def test_where_it_would_change_nothing_nothing_is_started_anew(setting, tmp_path):
    pages = tmp_path / "enabled"
    if setting:
        pages.write_text(setting)
    begun, _, _, tunables = run(PAGES=str(pages))
    assert len(begun) == 1 and tunables is None
