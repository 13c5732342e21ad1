"""One run a directory: a lock that ends with the process that holds it, however that ends.

It is the kernel's (flock), so a dead process holds nothing and needs no clearing up. On a shared
folder it keeps other machines out as far as the file system passes locks on: NFS does, FUSE mounts
of a bucket do not.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import logging

from segdiff_jax.errors import UserError
from segdiff_jax.runtime.files import reporting_write_errors

NAME = ".lock"


class InUseError(UserError):
    """Reports that another process holds the lock of a directory."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other processes that ask for it out of a directory; makes it if need be.

    Raises:
      InUseError: another process holds it, and is named.
      UserError: nothing can be written there.
    """
    path = directory / NAME
    with reporting_write_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        file = _open(path)
    try:
        with reporting_write_errors(directory):
            os.ftruncate(file, 0)
            os.pwrite(file, f"{socket.gethostname()}:{os.getpid()}\n".encode(), 0)
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _open(path: Path) -> int:
    """Returns the locked file that has this name; its owner may take the name away meanwhile."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(file, 256).decode(errors="replace").strip()
            os.close(file)
            raise InUseError(
                f"{path.parent} is in use by process {holder or 'that has just begun'}: wait for "
                "it, stop it, or choose another directory"
            ) from error
        except OSError as error:
            logging.warning(
                "%s cannot be locked (%s): see to it that no second run uses it",
                path.parent,
                error.strerror,
            )
            return file
        try:
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except FileNotFoundError:
            pass
        os.close(file)


def owner(directory: Path) -> str | None:
    """Returns HOST:PID of the process that holds the lock of a directory, or None.

    It takes a shared lock for a moment; a process that asks for the lock just then is refused.
    """
    try:
        file = os.open(directory / NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(file, 256).decode(errors="replace").strip() or "?"
    except OSError:  # this file system has no locks
        return None
    finally:
        os.close(file)
    return None
