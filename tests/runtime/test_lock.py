"""One run a directory: who holds it is named, and a dead process holds nothing."""

import os
import subprocess
import sys
from socket import gethostname

import pytest
from tiny_config import ROOT, tiny

from segdiff_jax import predict
from segdiff_jax.errors import USAGE
from segdiff_jax.runtime import lock

HOLD = """
import pathlib, sys
from segdiff_jax.runtime import lock
with lock.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
# a directory that only one process at a time can make is what the lock is to guard
CONTEND = """
import pathlib, sys
from segdiff_jax import errors
from segdiff_jax.runtime import lock
directory, got = pathlib.Path(sys.argv[1]), 0
while got < 40:
    try:
        with lock.locked(directory):
            (directory / "inside").mkdir()
            (directory / "inside").rmdir()
            got += 1
    except errors.UserError:
        pass
"""


def start(code, *words):
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.fixture
def holder(tmp_path):
    process = start(HOLD, tmp_path / "run")
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_who_was_first(holder, tmp_path):
    first = f"{gethostname()}:{holder.pid}"
    assert lock.owner(tmp_path / "run") == first
    with pytest.raises(lock.InUseError, match=f"in use by process {first}") as error:
        with lock.locked(tmp_path / "run"):
            pytest.fail("two hold it")
    assert error.value.code == USAGE


def test_the_lock_of_a_killed_process_is_taken_over(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / lock.NAME).exists()
    assert lock.owner(tmp_path / "run") is None
    with lock.locked(tmp_path / "run"):
        assert (tmp_path / "run" / lock.NAME).read_text() == f"{gethostname()}:{os.getpid()}\n"


def test_a_lock_that_was_given_back_leaves_nothing_behind(tmp_path):
    for _ in range(2):
        with lock.locked(tmp_path / "run"):
            pass
        assert list((tmp_path / "run").iterdir()) == [] and lock.owner(tmp_path / "run") is None


def test_of_many_that_ask_at_once_one_is_inside(tmp_path):
    crowd = [start(CONTEND, tmp_path) for _ in range(4)]
    for process in crowd:
        process.communicate(timeout=60)
    assert [process.returncode for process in crowd] == [0, 0, 0, 0]


def test_two_predictions_into_one_folder_are_refused(holder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predict.app, "set_up_logging", lambda: None)
    run, pictures = tmp_path / "trained", tmp_path / "pictures"
    run.mkdir()
    pictures.mkdir()
    (run / "config.json").write_text(tiny().to_json())
    (pictures / "a.png").write_bytes(b"")
    words = [f"--workdir={run}", f"--input={pictures}", f"--output={tmp_path / 'run'}"]
    assert predict.main(words) == USAGE
    assert f"in use by process {gethostname()}:{holder.pid}" in capsys.readouterr().err
