"""Keeps the sessions of all pages that are open, a bounded number."""

import threading
import time

from segdiff_jax.app.session import Session
from segdiff_jax.app.store import Store
from segdiff_jax.app.uploads import Uploads
from segdiff_jax.errors import BAD_DATA, UserError

MOST = 32  # pages
# without a call, after which a page makes room for another: an empty one, and one with pictures
EMPTY_SECONDS, IDLE_SECONDS = 60.0, 3600.0


class Sessions:
    """Keeps sessions by the key of the browser's page, and finds them by their token."""

    def __init__(self, store: Store, uploads: Uploads, threshold: float, most: int = MOST) -> None:
        """Begins without sessions.

        Args:
          store: of their predictions.
          uploads: of their files.
          threshold: that they begin with.
          most: how many there may be.
        """
        self.store, self.uploads = store, uploads
        self.threshold, self._most = threshold, most
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
            found = next((one for one in self._of.values() if one.token == token), None)
            if found is not None:
                found.used = time.monotonic()
            return found

    def close(self, key: str) -> None:
        """Forgets the session of a page that is gone."""
        with self._lock:
            session = self._of.pop(key, None)
        if session is not None:
            self._end(session)

    def close_all(self) -> None:
        """Forgets all sessions."""
        for key in [*self._of]:
            self.close(key)

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self._of)

    def _make_room(self) -> None:
        """Forgets the session that could go for longest, if there are too many."""
        if len(self._of) < self._most:
            return
        now = time.monotonic()
        ages = {key: now - one.used for key, one in self._of.items()}
        over = {
            key: ages[key] - (IDLE_SECONDS if one.entries or one.doing else EMPTY_SECONDS)
            for key, one in self._of.items()
        }
        key = max(over, key=over.__getitem__)
        if over[key] < 0:
            raise UserError(f"{self._most} pages are open, the most: close one", BAD_DATA)
        self._end(self._of.pop(key))

    def _end(self, session: Session) -> None:
        session.close()
        self.uploads.drop_all(session.token)
