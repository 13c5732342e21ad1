"""A program restarts itself for huge pages, once, with the same command line."""

import json
import os
import subprocess
import sys

import pytest
from tiny_config import ROOT

from segdiff_jax.runtime import startup

needs_huge_pages = pytest.mark.skipif(
    not startup.huge_pages_available(), reason="no huge pages on request"
)

PROGRAM = """
import json, os, resource, sys
from pathlib import Path
from segdiff_jax.runtime import startup
startup.POLICY = Path(os.environ.get("POLICY", startup.POLICY))
print("begun", os.getpid(), flush=True)
startup.reexec_with_huge_pages()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    b"x" * 2**27  # freed immediately
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([sys.argv, faults, os.environ.get("GLIBC_TUNABLES")]))
"""


def run(**environment):
    """Returns (ids of the processes that began, arguments, page faults, GLIBC_TUNABLES)."""
    clean = {k: v for k, v in os.environ.items() if k not in (startup.BEFORE, "GLIBC_TUNABLES")}
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", PROGRAM, "--a=b c", ""],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    *begun, last = done.stdout.splitlines()
    return begun, *json.loads(last)


@needs_huge_pages
def test_a_program_restarts_once_with_its_arguments_and_process_id_and_has_huge_pages():
    begun, arguments, faults, tunables = run()
    assert len(begun) == 2 and begun[0] == begun[1] and arguments == ["-c", "--a=b c", ""]
    assert tunables == "glibc.malloc.hugetlb=1"
    assert faults < 20_000  # of 131,072 small pages


@needs_huge_pages
def test_the_setting_of_the_user_and_other_tunables_are_kept():
    begun, _, faults, tunables = run(GLIBC_TUNABLES="glibc.malloc.hugetlb=0")
    assert len(begun) == 1 and faults > 100_000 and tunables == "glibc.malloc.hugetlb=0"
    begun, _, faults, tunables = run(GLIBC_TUNABLES="glibc.malloc.arena_max=2")
    assert len(begun) == 2 and faults < 20_000
    assert tunables == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("setting", ["[always] madvise never", "always madvise [never]", None])
def test_without_huge_pages_on_request_nothing_is_restarted(setting, tmp_path):
    policy = tmp_path / "enabled"
    if setting:
        policy.write_text(setting)
    begun, _, _, tunables = run(POLICY=str(policy))
    assert len(begun) == 1 and tunables is None
