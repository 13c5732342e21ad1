"""Checks the places where a program writes, before it writes anything.

A link may lead out of the folder that the program was given, to a file that is then overwritten; a
pipe where it expects a file blocks it without end. One check, here, serves every program.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from segdiff_jax.errors import BAD_CHECKPOINT, UserError

LOCKS = (".lock", ".lock-holder")  # of `lock`
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check(
    directory: Path,
    files: Iterable[str] = (),
    folders: Iterable[str] = (),
    code: int = BAD_CHECKPOINT,
) -> None:
    """Checks what a program is about to write in a directory; nothing need exist yet.

    Args:
      directory: that the program was given; it may be a link itself.
      files: names of the files that it writes there, besides those of its lock.
      folders: names of the folders that it fills.
      code: exit code of a refusal.

    Raises:
      UserError: a link leads out of the directory, or there is something else than a file, or a
        folder, in its place.
    """
    for name in (*LOCKS, *files):
        _check_one(directory / name, directory, stat.S_IFREG, code)
    for name in folders:
        if _check_one(directory / name, directory, stat.S_IFDIR, code):
            for entry in below(directory / name):
                _check_one(Path(entry.path), directory, None, code)


def check_whole(directory: Path, code: int = BAD_CHECKPOINT) -> None:
    """Checks everything in a directory that belongs to the program alone; as `check`."""
    for entry in below(directory):
        _check_one(Path(entry.path), directory, None, code)


def below(directory: Path, *, follow: bool = False) -> Iterator[os.DirEntry[str]]:
    """Yields the entries of a directory and its folders, without a stat for each: buckets are slow.

    Folders that cannot be listed are skipped. `follow`: folders that are links are entered, too,
    each once.
    """
    left, seen = [str(directory)], set[str]()
    while left:
        found: list[os.DirEntry[str]] = []
        with suppress(OSError), os.scandir(left.pop()) as entries:
            found = list(entries)
        yield from found
        for entry in found:
            if entry.is_symlink():
                target = os.path.realpath(entry.path)
                if not follow or target in seen:
                    continue
                seen.add(target)
            if entry.is_dir(follow_symlinks=follow):
                left.append(entry.path)


def require_inside(path: Path, directory: Path, code: int = BAD_CHECKPOINT) -> None:
    """Raises UserError for a link out of a directory."""
    if path.is_symlink():
        target = Path(os.path.realpath(path))  # of links in circles too
        if not target.is_relative_to(os.path.realpath(directory)):
            what = f"{path} is a link out of {directory}, to {target}"
            raise UserError(f"{what}: nothing is written through it", code)


def _check_one(path: Path, directory: Path, wanted: int | None, code: int) -> bool:
    """Checks a path and returns whether it exists; `wanted` is its kind, None: file or folder."""
    require_inside(path, directory, code)
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{path} cannot be used: {error.strerror}", code) from error
    allowed = (stat.S_IFREG, stat.S_IFDIR) if wanted is None else (wanted,)
    if kind not in allowed:
        must = " or ".join(KINDS[one] for one in allowed)
        raise UserError(f"{path} is {KINDS.get(kind, 'something else')}; it must be {must}", code)
    return True
