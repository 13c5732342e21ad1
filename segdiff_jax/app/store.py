"""Keeps predictions in files of one folder, and the last used in memory; both are bounded."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from segdiff_jax.app import predicted
from segdiff_jax.app.predicted import Predicted
from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.runtime.files import reporting_write_errors

MOST_BYTES = 4 * 2**30  # of all files: about 200 pictures of 512 x 512 pixels
MOST_MEMORY = 2**29  # bytes of what is kept in memory besides what is in use


class Recent:
    """Keeps the values that were used last, up to a number of bytes; the newest whatever it has."""

    def __init__(self, most: int = MOST_MEMORY) -> None:
        self._most, self._bytes = most, 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        """Returns the value of a key, which is made if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
        value = make()
        with self._lock:
            self._remove(key)
            self._values[key] = value, size(value)
            self._bytes += self._values[key][1]
            while self._bytes > self._most and len(self._values) > 1:
                self._remove(next(iter(self._values)))
        return value

    def drop(self, belongs: Callable[[Any], bool]) -> None:
        """Forgets the values of the keys that belong to something."""
        with self._lock:
            for key in [key for key in self._values if belongs(key)]:
                self._remove(key)

    @property
    def bytes(self) -> int:
        """The bytes of all values."""
        return self._bytes

    def _remove(self, key: Hashable) -> None:
        self._bytes -= self._values.pop(key, (None, 0))[1]


class Store:
    """Keeps predictions by owner and name."""

    def __init__(self, folder: Path, most: int = MOST_BYTES) -> None:
        """Keeps files in a folder that exists, of `most` bytes at most."""
        self.folder, self.recent, self._most = folder, Recent(), most
        self._sizes: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """The bytes of all files."""
        with self._lock:
            return sum(self._sizes.values())

    def put(self, owner: str, name: str, found: Predicted) -> None:
        """Keeps a prediction, in place of an earlier one of the same name.

        Raises:
          UserError: there would be too many bytes, or the disk is full.
        """
        size, key = predicted.size(found), (owner, name)
        with self._lock:
            used = sum(self._sizes.values()) - self._sizes.get(key, 0)
            if used + size > self._most:
                what = f"the page holds {used / 2**30:.1f} of at most {self._most / 2**30:.1f} GiB"
                raise UserError(f"{what}: remove pictures first", BAD_DATA)
            self._sizes[key] = size
        try:
            with reporting_write_errors(self.folder):
                predicted.save(found, self._path(owner, name))
        except BaseException:
            self.drop(owner, name)
            raise
        self.recent.drop(lambda other: other == key)

    def get(self, owner: str, name: str) -> Predicted:
        """Returns a prediction that is kept; KeyError: it is not."""
        with self._lock:
            if (owner, name) not in self._sizes:
                raise KeyError(name)
        load = lambda: predicted.load(self._path(owner, name))  # noqa: E731
        return self.recent.get((owner, name), load, predicted.size)

    def drop(self, owner: str, name: str | None = None) -> None:
        """Removes a prediction, or all of an owner."""
        with self._lock:
            keys = [key for key in self._sizes if key[0] == owner and name in (None, key[1])]
            for key in keys:
                del self._sizes[key]
        for key in keys:
            self._path(*key).unlink(missing_ok=True)
        self.recent.drop(lambda key: key[0] == owner and name in (None, key[1]))

    def _path(self, owner: str, name: str) -> Path:
        return self.folder / f"{owner}-{name}.npz"
