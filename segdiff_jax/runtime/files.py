"""Files that appear whole or not at all, and what a user is told where nothing can be written."""

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segdiff_jax.errors import CANNOT_WRITE, UserError

# what a disk, a mount or the rights on them answer; all else is a bug
CAUSES = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOTDIR, errno.EFBIG, errno.ESTALE),
)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a name to write under; the file takes its own name when the block ends well.

    Raises:
      UserError: the file cannot be written; what was written is removed.
    """
    # machines that share the folder may have equal process numbers
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # the reason it could not be written is what matters
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error.strerror or str(error)) from error
        raise


def cannot_write(path: Path, reason: str) -> UserError:
    """Returns the error that names the place, the reason, and the room that is left there."""
    return UserError(f"{path}: cannot be written: {reason}{_room(path)}", CANNOT_WRITE)


def _room(path: Path) -> str:
    for place in (path, *path.absolute().parents):
        with suppress(OSError):
            return f" ({shutil.disk_usage(place).free / 1e6:.1f} MB free)"
    return ""


def reason(error: BaseException | None) -> str:
    """Returns why the system refused to write, or "" if something else went wrong.

    Libraries put what the system said into errors of their own, so the text counts too.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in CAUSES:
            return os.strerror(error.errno)
        for cause in CAUSES:
            if os.strerror(cause) in str(error):
                return os.strerror(cause)
        error = error.__cause__ or error.__context__
    return ""


@contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    """What is inside writes below `path`.

    Raises:
      UserError: the system refused.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # libraries raise nearly anything
        if why := reason(error):
            raise cannot_write(path, why) from error
        raise


def check_writable(directory: Path) -> None:
    """Makes a directory and writes a page there, so that trouble shows before hours of work.

    Raises:
      UserError: the directory cannot be written to.
    """
    path = directory / f".probe.{os.getpid()}.tmp"
    with reporting_write_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("wb", buffering=0) as file:
                if file.write(bytes(4096)) < 4096:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
