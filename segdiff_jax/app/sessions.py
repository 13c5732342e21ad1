"""Keeps the sessions of all pages that are open, a bounded number."""

import threading
import time

from segdiff_jax.app.session import Session
from segdiff_jax.app.store import Store
from segdiff_jax.errors import BAD_DATA, UserError

MOST = 32  # pages
IDLE_SECONDS = 3600.0  # without a call, after which a page may be forgotten for another one


class Sessions:
    """Keeps sessions by the key of the browser's page, and finds them by their token."""

    def __init__(self, store: Store, threshold: float, most: int = MOST) -> None:
        self.store, self.threshold, self._most = store, threshold, most
        self._of: dict[str, Session] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> Session:
        """Returns the session of a page, which is begun if it has none.

        Raises:
          UserError: too many pages are open.
        """
        with self._lock:
            session = self._of.get(key)
            if session is None:
                self._make_room()
                session = self._of[key] = Session(self.store, self.threshold)
            session.used = time.monotonic()
            return session

    def find(self, key: str) -> Session | None:
        """Returns the session of a page; None: it has none."""
        return self._of.get(key)

    def by_token(self, token: str) -> Session | None:
        """Returns the session of a token; None: there is none."""
        with self._lock:
            return next((one for one in self._of.values() if one.token == token), None)

    def close(self, key: str) -> None:
        """Forgets the session of a page that is gone."""
        with self._lock:
            session = self._of.pop(key, None)
        if session is not None:
            session.close()

    def close_all(self) -> None:
        """Forgets all sessions."""
        for key in [*self._of]:
            self.close(key)

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self._of)

    def _make_room(self) -> None:
        """Forgets the session that was unused for longest, if there are too many."""
        if len(self._of) < self._most:
            return
        key, oldest = min(self._of.items(), key=lambda item: (bool(item[1].entries), item[1].used))
        if oldest.entries and time.monotonic() - oldest.used < IDLE_SECONDS:
            raise UserError(f"{self._most} pages are open, the most: close one", BAD_DATA)
        self._of.pop(key).close()
