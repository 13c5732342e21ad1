"""Checks the files of an untrusted work directory before any of them is read.

A symbolic link may lead to any file of the reader's, so may a name with ../, and a JSON file may be
larger than the memory. The content of the files is checked by the code that reads them.
"""

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from segdiff_jax.errors import BAD_CHECKPOINT, UserError

MAX_CONFIG_BYTES = 2**20
# Orbax's JSON has some hundred bytes an array, and more where there are many devices
MAX_METADATA_BYTES = 2**26
ARRAY_FOLDER = "d"  # in which Orbax keeps values; its files may have any size
FILES_WITH_NAMES = ("_CHECKPOINT_METADATA", "_METADATA")  # JSON that names parts of a checkpoint
UPWARDS = re.compile(r"(^|[/\\])\.\.([/\\]|$)")


def check_config_file(path: Path) -> None:
    """Raises UserError for a config.json that is a link out, no file, or larger than 1 MB."""
    _require_inside(path, path.parent)
    _require_file(path, MAX_CONFIG_BYTES)


def check_metadata_file(path: Path) -> None:
    """Raises UserError for a JSON file of a run that is no file, or larger than 64 MB."""
    _require_file(path, MAX_METADATA_BYTES)


def check_checkpoints(directory: Path) -> None:
    """Refuses checkpoints with links out of the directory, names with ../, or oversized JSON.

    Files that vanish meanwhile are skipped: a training may be deleting its old checkpoints.

    Args:
      directory: of the checkpoints, below the work directory; need not exist.

    Raises:
      UserError: the first file that is refused, and the reason; the exit code is 66.
    """
    _require_inside(directory, directory.parent)
    for entry in _below(directory):
        path, link = Path(entry), entry.is_symlink()
        with suppress(FileNotFoundError):
            if link:
                _require_inside(path, directory)
            if entry.is_dir(follow_symlinks=False) or (link and path.is_dir()):
                continue
            _require_file(path, MAX_METADATA_BYTES if path.parent.name != ARRAY_FOLDER else None)
            if path.name in FILES_WITH_NAMES:
                _require_names(path)


def check_workdir(workdir: Path) -> None:
    """Refuses links out of a work directory, before files are written there.

    Args:
      workdir: of the run; need not exist, and may be a link itself.

    Raises:
      UserError: the first such link; the exit code is 66.
    """
    for entry in _below(workdir):
        if entry.is_symlink():
            _require_inside(Path(entry), workdir)


def _below(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Yields the entries of a directory and its folders, without a stat for each: buckets are slow.

    Folders that cannot be listed are skipped.
    """
    left = [str(directory)]
    while left:
        found: list[os.DirEntry[str]] = []
        with suppress(OSError), os.scandir(left.pop()) as entries:
            found = list(entries)
        yield from found
        left += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]


def _require_inside(path: Path, directory: Path) -> None:
    """Refuses a link out of the directory; inside of it, its target is checked itself."""
    if path.is_symlink():
        target = Path(os.path.realpath(path))  # of links in circles too
        if not target.is_relative_to(os.path.realpath(directory)):
            raise _refusal(path, f"is a link out of {directory}, to {target}")


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
