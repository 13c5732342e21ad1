"""Writes files atomically, and reports what keeps them from being written.

Readers, and runs that continue after a crash, see the old content of a file or the new one.
"""

import errno
import json
import math
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from segdiff_jax.errors import CANNOT_WRITE, UserError

# errors of a disk, a mount or permissions; any other is an internal error
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
_OTHER = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ESTALE)
CAUSES = {number: os.strerror(number) for number in (*_DISK, *_OTHER)}
# of a file alone: what else is written to the same place may succeed
_OF_A_FILE = (errno.EFBIG, *_OTHER[:3])
TEMPORARY_BYTES = 13  # of the name of a temporary file


class WriteError(UserError):
    """Reports that the system refused to write a file.

    Attributes:
      everywhere: whether it would refuse all other files, too, as a full disk does.
    """

    def __init__(self, message: str, everywhere: bool = True) -> None:
        super().__init__(message, CANNOT_WRITE)
        self.everywhere = everywhere


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path; renames it to `path` when the block ends without an exception.

    Raises:
      WriteError: the file cannot be written; the temporary file is removed.
    """
    temporary = path.with_name(_temporary_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error.strerror or str(error), error.errno) from error
        raise


def _temporary_name(name: str) -> str:
    """Returns a hidden name of `TEMPORARY_BYTES`, however long the name of the file is.

    It is a function of the name, the process and the host: machines that share the folder may have
    equal process ids.
    """
    of = f"{name}/{socket.gethostname()}/{os.getpid()}".encode(errors="surrogateescape")
    return f".{zlib.crc32(of):08x}.tmp"


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file atomically, and creates its folder; raises as `atomic_write` does."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, content: Any, indent: int = 1) -> None:
    """Writes what `to_json_types` returns for the content atomically, as strict JSON.

    Raises:
      UserError: the file cannot be written.
      TypeError: a value has no JSON form.
    """
    text = json.dumps(to_json_types(content), indent=indent, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def to_json_types(value: Any) -> Any:
    """Converts arrays to lists, paths to strings, and NaN and infinities to None, as JSON needs."""
    if isinstance(value, Mapping):
        return {str(key): to_json_types(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_types(item) for item in value]
    if hasattr(value, "tolist"):
        return to_json_types(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def cannot_write(path: Path, reason: str, number: int | None = None) -> WriteError:
    """Returns an error that names the path, the reason, and the free space there.

    `number` is the errno of the system; one that is not among `CAUSES` concerns this file alone.
    """
    room = ""
    for existing in (path, *path.absolute().parents):
        with suppress(OSError):
            room = f" ({shutil.disk_usage(existing).free / 1e6:.1f} MB free)"
            break
    everywhere = number is None or (number in CAUSES and number not in _OF_A_FILE)
    return WriteError(f"{path}: cannot be written: {reason}{room}", everywhere)


def reason(error: BaseException | None) -> str:
    """Returns why the system refused to write, or "" if the error has another cause.

    Libraries wrap system errors in errors of their own, therefore the text is searched too.
    """
    while error is not None:
        for cause, text in CAUSES.items():
            if getattr(error, "errno", None) == cause or text in str(error):
                return text
        error = error.__cause__ or error.__context__
    return ""


@contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    """Converts errors of the system, raised by a block that writes below `path`.

    Raises:
      UserError: the system refused to write.
    """
    try:
        yield
    except Exception as error:  # libraries raise nearly anything
        if (why := reason(error)) and not isinstance(error, UserError):
            raise cannot_write(path, why) from error
        raise


def check_writable(directory: Path) -> None:
    """Creates a directory and writes 4 kB there, to fail before hours of work; raises UserError."""
    with reporting_write_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
