"""A run without progress writes the stacks of its threads and ends with 142; others continue."""

import subprocess
import sys
import time

import pytest
from tiny_config import ROOT

from segdiff_jax import errors
from segdiff_jax.runtime import watchdog

HANGS = """
import threading, time
from segdiff_jax.runtime import watchdog

def waits_forever():
    threading.Event().wait()

with watchdog.watch(0.5, coordinator=False):
    {before}
    waits_forever()
"""


def run(before, timeout=60):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGS.format(before=before)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return done, time.monotonic() - began


def test_a_hang_after_an_update_ends_with_142_and_the_line_where_it_hangs():
    done, seconds = run("watchdog.heartbeat('update 3')")
    assert done.returncode == errors.HUNG and seconds < 4
    assert "in waits_forever" in done.stderr and "watchdog" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == "segdiff: hung: no progress for 0.5 s since update 3; all stacks are above"


def test_what_may_compile_has_ten_times_as_long():
    done, seconds = run(
        "watchdog.heartbeat('update 3'); watchdog.expect_compilation('the validation')"
    )
    assert done.returncode == errors.HUNG and seconds > 5
    assert "no progress for 5 s since the validation" in done.stderr


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_a_run_with_progress_or_without_a_watchdog_continues(seconds):
    with watchdog.watch(seconds):
        for step in range(10):
            watchdog.heartbeat(f"update {step}")
            time.sleep(0.1)
    if seconds == 0:
        time.sleep(0.5)  # a watchdog would have ended it by now
    watchdog.heartbeat("no watchdog")
