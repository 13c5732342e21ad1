"""Checks the files of an untrusted work directory before any of them is read.

A pipe may have no end, a name with ../ may lead anywhere, and a JSON file may be larger than the
memory. Links are followed when a run is read, as the caches of hubs are made of them; when it is
written, none may lead out of it. The content of the files is checked by the code that reads them.
"""

import json
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.runtime import own_files

MAX_CONFIG_BYTES = 2**20
# Orbax's JSON has some hundred bytes an array, and more where there are many devices
MAX_METADATA_BYTES = 2**26
ARRAY_FOLDER = "d"  # in which Orbax keeps values; its files may have any size
FILES_WITH_NAMES = ("_CHECKPOINT_METADATA", "_METADATA")  # JSON that names parts of a checkpoint
UPWARDS = re.compile(r"(^|[/\\])\.\.([/\\]|$)")


def check_config_file(path: Path) -> None:
    """Raises UserError for a config.json that is no file, or larger than 1 MB."""
    _require_file(path, MAX_CONFIG_BYTES)


def check_metadata_file(path: Path) -> None:
    """Raises UserError for a JSON file of a run that is no file, or larger than 64 MB."""
    _require_file(path, MAX_METADATA_BYTES)


def check_weights_file(path: Path, max_bytes: int) -> None:
    """Raises UserError for weights that are missing, no file, or larger than their network."""
    try:
        _require_file(path, max_bytes)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file", BAD_CHECKPOINT) from error


def check_log_file(path: Path) -> None:
    """Raises UserError for a file of a run that exists and is no file, such as a pipe."""
    with suppress(FileNotFoundError):
        _require_file(path, None)


def check_checkpoints(directory: Path, *, writes: bool = True) -> None:
    """Refuses checkpoints with names with ../, oversized JSON, or what is no file.

    Files that vanish meanwhile are skipped: a training may be deleting its old checkpoints.

    Args:
      directory: of the checkpoints, below the work directory; need not exist.
      writes: whether they are written, too; then links out of the directory are refused.

    Raises:
      UserError: the first file that is refused, and the reason; the exit code is 66.
    """
    if writes:
        own_files.require_inside(directory, directory.parent)
    if directory.exists() and not directory.is_dir():
        raise _refusal(directory, "is no folder")
    for entry in own_files.below(directory, follow=not writes):
        path, link = Path(entry), entry.is_symlink()
        with suppress(FileNotFoundError):
            if link and writes:
                own_files.require_inside(path, directory)
            if entry.is_dir(follow_symlinks=False) or (link and path.is_dir()):
                continue
            _require_file(path, MAX_METADATA_BYTES if path.parent.name != ARRAY_FOLDER else None)
            if path.name in FILES_WITH_NAMES:
                _require_names(path)


def _require_file(path: Path, max_bytes: int | None) -> None:
    """Refuses what is no regular file, and may have no end, and files that are too large."""
    try:
        state = path.stat()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(state.st_mode):
        raise _refusal(path, "is neither a file nor a folder")
    if max_bytes is not None and state.st_size > max_bytes:
        most = f"at most {max_bytes / 1e6:.0f} MB are allowed"
        raise _refusal(path, f"has {state.st_size / 1e6:.0f} MB; {most}")


def _require_names(path: Path) -> None:
    """Refuses a JSON file with a string that leads out of the checkpoint."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return  # damaged: `Checkpoints` reads the checkpoint before
    for name in _strings(content):
        if UPWARDS.search(name):
            raise _refusal(path, f"names {name!r}, which leads out of the checkpoint")


def _strings(content: Any) -> Iterator[str]:
    """Yields every string in the content of a JSON file, keys included."""
    left = [content]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            left += one


def _refusal(path: Path, reason: str) -> UserError:
    return UserError(f"{path} {reason}: not read, it is not what a training writes", BAD_CHECKPOINT)
