"""Locks a directory for one process, until the process ends in whatever way.

The lock is the kernel's (flock, on Windows LockFileEx), so a dead process holds nothing. On a
shared folder it excludes other machines if the file system passes locks on: NFS does, FUSE mounts
of a bucket do not.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from absl import logging
from filelock import FileLock, Timeout

from segdiff_jax.errors import UserError
from segdiff_jax.runtime.files import cannot_write, reporting_write_errors, write_bytes

# The lock file stays: nobody may wait for a file that was deleted. The holder is written beside it,
# since no other process may read a locked file on Windows.
NAME, HOLDER = ".lock", ".lock-holder"
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # errors of a file system without locks


class InUseError(UserError):
    """Reports that another process holds the lock of a directory."""


@contextmanager
def locked(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a directory during the block; creates the directory.

    Args:
      directory: to lock.
      wait: whether to wait for another process that holds it.

    Raises:
      InUseError: another process holds it, and is named.
      UserError: nothing can be written there.
    """
    holder = directory / HOLDER
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(directory, error.strerror or str(error)) from error
    with reporting_write_errors(directory):
        lock = _acquire(directory / NAME, wait)
    if lock is None:
        yield
        return
    try:
        write_bytes(holder, f"{socket.gethostname()}:{os.getpid()}\n".encode())
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _acquire(path: Path, wait: bool) -> FileLock | None:
    """Returns the acquired lock, or None where the file system has no locks."""
    if path.is_symlink():
        raise cannot_write(path, "it is a symbolic link")
    lock = FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        in_use = f"{path.parent} is in use by process {_holder(path.parent)}"
        raise InUseError(f"{in_use}: wait for it, stop it, or choose another directory") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        message = "%s cannot be locked (%s): make sure that no second run uses it"
        logging.warning(message, path.parent, error.strerror)
        return None
    return lock


def owner(directory: Path) -> str | None:
    """Returns HOST:PID of the process that holds the lock of a directory, or None.

    It takes the lock for a moment; a process that asks for it just then is refused.
    """
    path = directory / NAME
    if not (directory / HOLDER).exists() or path.is_symlink():
        return None
    try:
        with FileLock(path, timeout=0, fallback_to_soft=False):
            return None
    except Timeout:
        return _holder(directory)
    except OSError:  # a file system without locks, or one that cannot be written
        return None


def _holder(directory: Path) -> str:
    with suppress(OSError):
        return (directory / HOLDER).read_text(errors="replace")[:256].strip()
    return "that has just begun"
