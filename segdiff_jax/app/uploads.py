"""Keeps the files that browsers send until they are read: under names of its own, bounded."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.runtime.files import cannot_write

MOST_BYTES = 2**31  # of all files that wait
MOST_FILES = 600  # likewise
SILENT_SECONDS = 30.0  # of a sender, after which its file is given up


@dataclass(frozen=True)
class Sent:
    """A file that was sent: its owner, the name that it had there, where it lies, its bytes."""

    owner: str
    name: str
    path: Path
    size: int


class Uploads:
    """Keeps files in the order in which they came."""

    def __init__(self, folder: Path, most_of_file: int, most: int = MOST_BYTES) -> None:
        """Keeps files in a folder that exists.

        Args:
          folder: of the files.
          most_of_file: bytes that a file may have.
          most: bytes that all may have together.
        """
        self.folder, self.most_of_file, self._most = folder, most_of_file, most
        self._sent: dict[Path, Sent] = {}  # also those of which a part is still to come
        self._complete: dict[Path, None] = {}
        self._lock = threading.Lock()

    async def keep(self, owner: str, name: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        """Writes a file of so many bytes as it comes; whatever fails, nothing of it is left.

        Raises:
          UserError: it is too large or has another size, too much waits, or the disk is full.
        """
        sent = self._begin(owner, name, size)
        try:
            written = await _write(sent, chunks)
            if written != size:
                raise UserError(f"{written} bytes came of {size}: send it again", BAD_DATA)
        except BaseException as error:
            self._drop(sent)
            if isinstance(error, OSError):
                raise cannot_write(sent.path, error.strerror or str(error), error.errno) from error
            raise
        with self._lock:
            self._complete[sent.path] = None

    def _begin(self, owner: str, name: str, size: int) -> Sent:
        """Makes room for a file; UserError: there is none."""
        if size > self.most_of_file:
            what = f"{size / 1e6:.0f} MB are more than {self.most_of_file / 1e6:.0f} MB"
            raise UserError(f"{what}, the most (--max_megabytes)", BAD_DATA)
        with self._lock:
            waiting = sum(one.size for one in self._sent.values())
            if waiting + size > self._most or len(self._sent) >= MOST_FILES:
                raise UserError("too many files wait to be read: send it again later", BAD_DATA)
            path = self.folder / secrets.token_hex(16)
            sent = self._sent[path] = Sent(owner, name, path, size)
        return sent

    def take(self, owner: str) -> Sent | None:
        """Returns the first file of an owner, whose bytes still count until `done`; None: none."""
        with self._lock:
            for path in self._complete:
                if self._sent[path].owner == owner:
                    del self._complete[path]
                    return self._sent[path]
        return None

    def waiting(self, owner: str) -> int:
        """Returns how many files of an owner wait."""
        with self._lock:
            return sum(self._sent[path].owner == owner for path in self._complete)

    def done(self, sent: Sent) -> None:
        """Removes a file that was taken."""
        self._drop(sent)

    def drop_all(self, owner: str) -> int:
        """Removes the files of an owner that wait; returns how many."""
        count = 0
        while (sent := self.take(owner)) is not None:
            self._drop(sent)
            count += 1
        return count

    def _drop(self, sent: Sent) -> None:
        with suppress(OSError):
            sent.path.unlink(missing_ok=True)
        with self._lock:
            self._sent.pop(sent.path, None)
            self._complete.pop(sent.path, None)


async def _write(sent: Sent, chunks: AsyncIterator[bytes]) -> int:
    """Writes a file and returns its bytes; of more than were announced the rest is left out.

    Raises:
      UserError: nothing came for a while.
    """
    written = 0
    with sent.path.open("xb") as file:
        while written <= sent.size:
            try:
                chunk = await asyncio.wait_for(anext(chunks), SILENT_SECONDS)
            except StopAsyncIteration:
                break
            except TimeoutError as error:
                what = f"nothing came for {SILENT_SECONDS:g} s: send it again"
                raise UserError(what, BAD_DATA) from error
            written += len(chunk)
            if written <= sent.size:
                file.write(chunk)
    return written
