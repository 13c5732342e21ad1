"""What the files of a run must be before any of them is read: they may come from a stranger.

A link may lead to any file of the reader's, a name with ../ as well, and a JSON file may be larger
than the memory. What is inside of the files is judged by who reads them.
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

CONFIG_BYTES = 2**20


# Orbax's JSON has some hundred bytes an array, and more where there are many devices
METADATA_BYTES = 2**26


ARRAYS = "d"  # the folders in which Orbax keeps values; their files may have any size


NAMING = ("_CHECKPOINT_METADATA", "_METADATA")  # JSON files that name parts of a checkpoint


UPWARDS = re.compile(r"(^|[/\\])\.\.([/\\]|$)")


def check_config_file(path: Path) -> None:
    """Refuses a config.json that lies elsewhere, is no file, or is too large to be one.

    Raises:
      UserError: why; the exit code is 66.
    """
    _require_inside(path, path.parent)
    _require_file(path, CONFIG_BYTES)


def check_checkpoints(directory: Path) -> None:
    """Refuses checkpoints with links out of the directory, names with ../, or oversized JSON.

    Files that vanish meanwhile are no matter: a training may be deleting its old checkpoints.

    Args:
      directory: of the checkpoints, below the work directory; need not exist.

    Raises:
      UserError: the first file that is refused, and why; the exit code is 66.
    """
    _require_inside(directory, directory.parent)
    for entry in _below(directory):
        path, link = Path(entry), entry.is_symlink()
        with suppress(FileNotFoundError):
            if link:
                _require_inside(path, directory)
            if entry.is_dir(follow_symlinks=False) or (link and path.is_dir()):
                continue
            _require_file(path, METADATA_BYTES if path.parent.name != ARRAYS else None)
            if path.name in NAMING:
                _require_names(path)


def check_workdir(workdir: Path) -> None:
    """Refuses links out of a work directory, before anything is written there.

    Args:
      workdir: of the run; need not exist, and may be a link itself.

    Raises:
      UserError: the first such link; the exit code is 66.
    """
    for entry in _below(workdir):
        if entry.is_symlink():
            _require_inside(Path(entry), workdir)


def _below(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Yields what is in a directory and its folders, without a question for each: buckets are slow.

    What cannot be listed is left to who wants to read it.
    """
    left = [str(directory)]
    while left:
        found: list[os.DirEntry[str]] = []
        with suppress(OSError), os.scandir(left.pop()) as entries:
            found = list(entries)
        yield from found
        left += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]


def _require_inside(path: Path, directory: Path) -> None:
    """Refuses a link out of the directory; one that stays is met again where it leads."""
    if path.is_symlink():
        target = Path(os.path.realpath(path))  # also of links in circles, which stay what they are
        if not target.is_relative_to(os.path.realpath(directory)):
            raise _refusal(path, f"is a link out of {directory}, to {target}")


def _require_file(path: Path, most: int | None) -> None:
    """Refuses what is no regular file, which may never end, or has more than so many bytes."""
    try:
        state = path.stat()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(state.st_mode):
        raise _refusal(path, "is neither a file nor a folder")
    if most is not None and state.st_size > most:
        size = f"{state.st_size / 1e6:.0f} MB; at most {most / 1e6:.0f} MB are allowed"
        raise _refusal(path, f"has {size}")


def _require_names(path: Path) -> None:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return  # damaged: who reads it takes the checkpoint before
    for name in _strings(content):
        if UPWARDS.search(name):
            raise _refusal(path, f"names {name!r}, which leads out of the checkpoint")


def _strings(content: Any) -> Iterator[str]:
    """Yields every string of what a JSON file holds, keys too."""
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
