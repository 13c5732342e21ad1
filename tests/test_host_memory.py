"""Freed memory is used again without asking the system for it."""

import subprocess
import sys

import pytest
from small import ROOT

PROGRAM = """
import resource, sys, threading
import numpy as np
from segdiff_jax import host_memory
kept = sys.argv[1] == "keep" and host_memory.keep_freed()

def work():
    for _ in range(5):
        np.ones(2**24)  # 128 MB

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(kept, faults())
"""


def run(word):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, word], cwd=ROOT, capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_what_is_freed_is_not_cleared_again_by_the_system():
    kept, faults = run("keep")
    if not kept:
        pytest.skip("the C library is not glibc")
    _, otherwise = run("leave")
    assert faults < otherwise / 20, (faults, otherwise)
