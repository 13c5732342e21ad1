"""The process of the authors' code, with a small program in their place."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny_config import tiny

from benchmarks import elsewhere, peak
from benchmarks.timing import alternate
from segdiff_jax.errors import INTERNAL, UserError

STAND_IN = """
import os, sys, time
from benchmarks import elsewhere

def write(*values):
    with open(sys.argv[1], "a") as log:
        print(*values, file=log)

class Network:
    def __init__(self, config, side):
        if not side:
            raise ImportError("libtorch.so: not found")
        write(os.getpid(), "jax" in sys.modules, config.model.multipliers, side)
        write(*(os.environ.get(name, "none") for name in ("GLIBC_TUNABLES", elsewhere.BEFORE)))

    def training_step(self, batch):
        return lambda: 1 / (batch - 4)

    def encoding(self, count):
        print("built")
        return lambda: [write("theirs", count), print("done"), os.write(1, b"by a library\\n")]

    def reverse_step(self, rows):
        return lambda: time.sleep(rows / 10)

    def sampling(self, generations, steps):
        return lambda: os.kill(os.getpid(), 9)

elsewhere.main(Network)
"""


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def started(log, side=64):
    return elsewhere.started([sys.executable, "-c", STAND_IN, str(log)], tiny(), side)


def has_ended(log):
    try:
        os.kill(int(log.read_text().split()[0]), 0)
    except ProcessLookupError:
        return True
    return False


def test_works_of_two_processes_take_turns(log):
    def ours():
        with log.open("a") as file:
            print("ours", file=file)

    with started(log) as theirs:
        works = {"ours": ours, "three": theirs.encoding(3), "five": theirs.encoding(5)}
        samples = alternate(works, repeats=2, warmup=0)
    turns = ["ours", "theirs 3", "theirs 5"]
    assert log.read_text().splitlines()[2:] == turns + turns[::-1]
    assert all(len(sample.values) == 2 for sample in samples.values())


def test_their_process_knows_the_config_and_loads_no_jax(log):
    with started(log):
        pass
    assert log.read_text().splitlines()[0].split(maxsplit=1)[1] == "False (1, 2) 64"


def test_the_time_of_a_work_ends_when_it_is_done(log):
    with started(log) as theirs:
        work = theirs.reverse_step(3)
        (sample,) = alternate({"": work}, repeats=1, warmup=0).values()
    assert sample.median >= 0.3


def test_their_output_does_not_mix_with_replies(log, capfd):
    with started(log) as theirs:
        first, second = theirs.encoding(1), theirs.encoding(2)
        second()
        first()
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err.count("by a library") == 2
    assert log.read_text().splitlines()[2:] == ["theirs 2", "theirs 1"]


def test_an_error_of_theirs_names_the_request_and_the_place(log):
    with started(log) as theirs:
        work, good = theirs.training_step(4), theirs.training_step(5)
        with pytest.raises(UserError, match=r"training_step\(4\): ZeroDivisionError: ") as caught:
            work()
        assert caught.value.code == INTERNAL
        assert caught.value.details[0].startswith("Traceback")
        good()  # the process is still there


def test_a_network_that_cannot_be_imported_takes_one_line(log):
    message = "making the network: ImportError: libtorch.so: not found"
    with pytest.raises(UserError, match=message) as caught, started(log, side=0):
        pass
    assert caught.value.code == INTERNAL and caught.value.details == ()


def test_a_method_that_is_not_a_work_is_not_called(log):
    with started(log) as theirs:
        with pytest.raises(UserError, match="'__init__' is not one of training_step, "):
            theirs.ask("making it", work="__init__", arguments=[tiny().to_dict(), 64])
    assert len(log.read_text().splitlines()) == 2  # of the first and only network


def test_a_killed_process_is_reported_at_every_request(log):
    with started(log) as theirs:
        other, deadly = theirs.encoding(1), theirs.sampling(8, 20)
        for work, call in ((deadly, r"sampling\(8, 20\)"), (other, r"encoding\(1\)")):
            with pytest.raises(UserError, match=f"{call}: their process ended with -9") as caught:
                work()
            assert caught.value.code == INTERNAL


def test_their_process_ends_with_the_context(log):
    with started(log):
        assert not has_ended(log)
    assert has_ended(log)


def test_ctrl_c_reaches_only_this_process(log):
    with started(log):
        assert os.getpgid(int(log.read_text().split()[0])) != os.getpgrp()


def test_ctrl_c_ends_their_process_during_a_work(log):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), started(log) as theirs:
            work = theirs.reverse_step(200)
            start = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert has_ended(log) and time.monotonic() - start < 10


USERS, OURS = "glibc.malloc.hugetlb=0", "glibc.malloc.mmap_max=65536"


@pytest.fixture(params=[(USERS, None), (OURS, ""), (OURS, USERS), (None, None), (None, USERS)])
def tunables(request, monkeypatch):
    """Sets them as this program may have; returns the user's own value."""
    current, before = request.param
    for name, value in (("GLIBC_TUNABLES", current), (elsewhere.BEFORE, before)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    return current if before is None else before or None


def test_their_process_has_the_environment_of_the_user(log, tunables):
    here = dict(os.environ)
    with started(log):
        pass
    assert log.read_text().splitlines()[1] == f"{tunables or 'none'} none"
    assert dict(os.environ) == here


def test_their_memory_is_measured_in_the_environment_of_the_user(tmp_path, tunables, monkeypatch):
    environments = []

    def run(command, env, **_):
        environments.append(os.environ if env is None else env)
        return subprocess.CompletedProcess(command, 0, "1\n", "")

    monkeypatch.setattr(peak.subprocess, "run", run)
    peak.rows(tmp_path)
    ours, theirs = environments[: len(peak.WORKS)], environments[len(peak.WORKS) :]
    assert all(dict(each) == dict(os.environ) for each in ours)
    kept = {k: v for k, v in os.environ.items() if k not in ("GLIBC_TUNABLES", elsewhere.BEFORE)}
    expected = kept | ({"GLIBC_TUNABLES": tunables} if tunables else {})
    assert len(theirs) == len(peak.WORKS) and all(each == expected for each in theirs)


def test_their_memory_is_measured_in_a_process_without_jax():
    code = """if True:
        import sys
        from benchmarks import authors, peak

        class Theirs:
            def __init__(self, checkout, config, side):
                assert (str(checkout), side) == ("theirs", 64)

            def training_step(self, batch):
                return lambda: print("update of", batch)

        authors.Authors = Theirs
        assert peak.peak_of_theirs("training", peak.Path("theirs")) > 0
        print("jax" in sys.modules)
    """
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=elsewhere.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["update of 4"] * peak.REPEATS + ["False"]


def test_the_memory_of_a_process_is_not_that_of_the_one_that_started_it():
    code = "from benchmarks import peak; print(peak.resident())"
    large = np.ones(600_000_000, np.uint8)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=elsewhere.ROOT, capture_output=True, text=True, check=True)
    assert 1e6 < int(done.stdout) < large.nbytes < peak.resident()
