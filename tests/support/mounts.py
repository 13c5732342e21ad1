"""Mounts small disks that can be full or read-only; only root can.

Root may write to files whose permissions forbid it: only a mount is unwritable for it.
"""

import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest


def _mount(*arguments):
    return subprocess.run(["mount", *arguments], capture_output=True, text=True)


@contextmanager
def mounted(directory, size="4m"):
    """Mounts a small disk at a directory, with its content; skips the test if not allowed."""
    directory.mkdir(parents=True, exist_ok=True)
    before = directory.with_name(f"{directory.name}.before")
    directory.rename(before)
    directory.mkdir()
    try:
        done = _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory))
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"mounting is not allowed: {done.stderr.strip()}")
    try:
        subprocess.run(["cp", "-a", f"{before}/.", str(directory)], check=True)
        yield directory
        subprocess.run(["cp", "-a", f"{directory}/.", str(before)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)
        directory.rmdir()
        before.rename(directory)


@contextmanager
def full_disk(directory, leave=0):
    """Fills the disk at a directory, but for `leave` bytes."""
    filler = Path(directory, "filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only_disk(directory):
    """Makes the disk at a directory read-only."""
    done = _mount("-o", "remount,ro", str(directory))
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        _mount("-o", "remount,rw", str(directory))
