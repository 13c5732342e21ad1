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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from segdiff_jax.errors import CANNOT_WRITE, UserError

# errors of a disk, a mount or permissions; any other is an internal error
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
_OTHER = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ESTALE)
CAUSES = {number: os.strerror(number) for number in (*_DISK, *_OTHER)}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path; renames it to `path` when the block ends without an exception.

    Raises:
      UserError: the file cannot be written; the temporary file is removed.
    """
    # the host is part of the name: machines that share the folder may have equal process ids
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error.strerror or str(error)) from error
        raise


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


def cannot_write(path: Path, reason: str) -> UserError:
    """Returns an error that names the path, the reason, and the free space there."""
    room = ""
    for existing in (path, *path.absolute().parents):
        with suppress(OSError):
            room = f" ({shutil.disk_usage(existing).free / 1e6:.1f} MB free)"
            break
    return UserError(f"{path}: cannot be written: {reason}{room}", CANNOT_WRITE)


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
