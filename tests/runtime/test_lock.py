"""One run a directory: the holder is named, and a dead process holds nothing."""

import errno
import os
import subprocess
import sys
import threading
import time
from socket import gethostname

import pytest
from tiny_config import ROOT, tiny

from segdiff_jax import predict
from segdiff_jax.errors import CANNOT_WRITE, USAGE, UserError
from segdiff_jax.runtime import lock

HOLD = """
import pathlib, sys
from segdiff_jax.runtime import lock
with lock.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
# two processes inside of the lock would both create the directory, and one would fail
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


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
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


def test_a_second_process_is_refused_and_the_first_is_named(holder, tmp_path):
    first = f"{gethostname()}:{holder.pid}"
    assert lock.owner(tmp_path / "run") == first
    with pytest.raises(lock.InUseError, match=f"in use by process {first}") as error:
        with lock.locked(tmp_path / "run"):
            pytest.fail("two hold it")
    assert error.value.code == USAGE


def test_the_lock_of_a_killed_process_is_taken_over(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / lock.HOLDER).exists()
    assert lock.owner(tmp_path / "run") is None
    with lock.locked(tmp_path / "run"):
        assert (tmp_path / "run" / lock.HOLDER).read_text() == f"{gethostname()}:{os.getpid()}\n"


def test_a_released_lock_leaves_an_empty_file_and_can_be_taken_again(tmp_path):
    for _ in range(2):
        with lock.locked(tmp_path / "run"):
            pass
        left = [path.name for path in (tmp_path / "run").iterdir()]
        assert left == [lock.NAME] and (tmp_path / "run" / lock.NAME).read_bytes() == b""
        assert lock.owner(tmp_path / "run") is None


def test_a_lock_that_is_released_by_an_error_can_be_taken_again(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.locked(tmp_path):
        raise ZeroDivisionError
    with lock.locked(tmp_path):
        pass


def test_a_process_that_waits_gets_the_lock_when_the_holder_ends(holder, tmp_path):
    began = time.monotonic()
    threading.Timer(0.5, holder.kill).start()
    with lock.locked(tmp_path / "run", wait=True):
        assert time.monotonic() - began > 0.4


@pytest.mark.parametrize("name", [lock.NAME, lock.HOLDER])
def test_nothing_is_written_through_a_link_in_place_of_a_file_of_the_lock(name, tmp_path):
    (tmp_path / "victim").write_text("as it was")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "victim")
    try:
        with lock.locked(tmp_path / "run"):
            assert name == lock.HOLDER  # it is replaced
    except UserError as error:
        assert name == lock.NAME and error.code == CANNOT_WRITE
        assert "run/.lock: cannot be written: it is a symbolic link" in str(error)
    assert (tmp_path / "victim").read_text() == "as it was"


def test_a_file_system_without_locks_is_warned_of_and_used(tmp_path, monkeypatch, caplog):
    def acquire(self):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(lock.FileLock, "acquire", acquire)
    with caplog.at_level("WARNING"), lock.locked(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked (Function not implemented)" in caplog.text


def test_of_many_that_contend_one_is_inside(tmp_path):
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
    arguments = [f"--workdir={run}", f"--input={pictures}", f"--output={tmp_path / 'run'}"]
    assert predict.main(arguments) == USAGE
    assert f"in use by process {gethostname()}:{holder.pid}" in capsys.readouterr().err
