"""Who works on what, among processes of any machines that share a folder.

A claim is a file NAME.claim-K made with O_EXCL, which network file systems promise too: of all who
try, one succeeds. Its owner touches it every BEAT seconds. One that was not touched for STALE
seconds, or whose process on this machine is gone, is dead; it stays where it is, and whoever makes
the file of the next number takes over. The highest number counts, so nothing is ever taken from
under a living owner by deleting a file. An owner that finds a higher number than its own was
thought dead (it slept): it must not write any more.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

BEAT, STALE = 10.0, 120.0  # seconds; NFS may show a time of change that is a minute old


class Holder(NamedTuple):
    """The owner of a claim.

    Attributes:
      host: of the process; "?" while the claim is being written.
      pid: of the process.
      number: of the claim.
      dead: whether it may be taken over.
    """

    host: str
    pid: int
    number: int
    dead: bool


def holder(path: Path) -> Holder | None:
    """Returns who holds the claim on a path, dead or alive, or None."""
    numbers = [
        int(match[1])
        for name in _names(path.parent)
        if (match := re.fullmatch(re.escape(path.name) + r"\.claim-(\d+)", name))
    ]
    if not numbers:
        return None
    file = _file(path, max(numbers))
    try:
        seen = file.stat().st_mtime
        found = json.loads(file.read_text() or "{}")
    except FileNotFoundError:  # released meanwhile
        return None
    except ValueError:
        found = {}
    host, pid = str(found.get("host", "?")), int(found.get("pid", 0))
    gone = bool(_space()) and found.get("space") == _space() and not _is_alive(pid)
    return Holder(host, pid, max(numbers), gone or _now(path.parent) - seen > STALE)


@contextlib.contextmanager
def claim(path: Path, lost: Callable[[], object]) -> Iterator[bool]:
    """Claims a path while the block runs; says whether this process has it.

    Args:
      path: what to work on; its folder is made if missing.
      lost: called, in another thread, when the claim was taken over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    last = holder(path)
    if last is not None and not last.dead:
        yield False
        return
    number = 0 if last is None else last.number + 1
    mine, stop = _file(path, number), threading.Event()
    try:
        handle = os.open(mine, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        yield False
        return
    with os.fdopen(handle, "w") as file:
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "space": _space()}
        json.dump(owner | {"began": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
    beat = threading.Thread(target=_beat, args=(path, number, stop, lost), daemon=True)
    beat.start()
    try:
        yield True
    finally:
        stop.set()
        beat.join()
        mine.unlink(missing_ok=True)


def _beat(path: Path, number: int, stop: threading.Event, lost: Callable[[], object]) -> None:
    while not stop.wait(BEAT):
        with contextlib.suppress(OSError):  # the file system may be away for a while
            if _file(path, number + 1).exists():
                lost()
                return
            os.utime(_file(path, number))


def _file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.claim-{number}")


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _now(folder: Path) -> float:
    """The time by the clock that marks changes in this folder, which may be a server's."""
    probe = folder / f".clock-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink(missing_ok=True)
    return now


def _space() -> str:
    """Names the space in which process numbers mean something: host and container."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
