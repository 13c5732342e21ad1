"""Predicts the pictures of a page, and answers for them: what takes time, in small steps.

Each function is an iterator of lines that say what is done; between two of them, and after each row
of tiles, it looks whether it shall stop.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from absl import logging

from segdiff_jax.app import pictures
from segdiff_jax.app.predicted import predict
from segdiff_jax.app.session import Entry, Session
from segdiff_jax.app.uploads import Uploads
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import UserError, one_line

Load = Callable[[str, int], Any]  # loads a model, by its budget and its number of samples
PAUSE = 0.2  # seconds
MOST_MODELS = 4  # that are kept


class StoppedError(Exception):
    """Ends a prediction that nobody waits for."""


class Models:
    """Keeps the models of the budgets and numbers of samples that were used last."""

    def __init__(self, load: Load) -> None:
        self._load, self._lock = load, threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def get(self, budget: str, samples: int = 0) -> Any:
        """Returns the model; UserError: the network has no such budget, or draws no samples."""
        key = budget, samples
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._load(*key)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_MODELS:
                self._kept.popitem(last=False)
            return self._kept[key]


def take(
    session: Session,
    uploads: Uploads,
    model: Any,
    budget: str,
    limits: Limits,
) -> Iterator[str]:
    """Reads and predicts the files that wait, and removes them; one that fails is a problem.

    Args:
      session: whose files are taken, and that they are added to.
      uploads: of all sessions.
      model: an `api.Model`.
      budget: of the model.
      limits: of what is read.
    """
    session.stop = session.closed
    while (sent := uploads.take(session.token)) is not None:
        name, left = pictures.shown_name(sent.name), uploads.waiting(session.token)
        text = f"{name}, {left} more wait" if left else name
        yield text
        try:
            with _reported(session, name):
                picture = pictures.read(sent.path, name, limits, model.channel_names)
                found = predict(model, picture.pixels, _report(session, text))
                entry = session.add(picture, found, budget, model.calibration)
                session.answered(entry.number)
        except StoppedError:
            left = 1 + uploads.drop_all(session.token)
            session.add_problem(f"stopped: {left} pictures are not predicted, {name} the first")
        finally:
            uploads.done(sent)


def predict_again(session: Session, model: Any, budget: str) -> Iterator[str]:
    """Predicts all pictures by another budget, the one that is shown first."""
    session.stop = session.closed
    numbers = sorted(session.order(), key=lambda number: number != session.shown)
    left = [number for number in numbers if session.entries[number].budget != budget]
    with suppress(StoppedError):
        for place, number in enumerate(left, start=1):
            if (entry := session.entries.get(number)) is None:
                continue
            text = f"{budget}, {place} of {len(left)}: {entry.name}"
            yield text
            with _reported(session, entry.name):
                image = session.predicted(number).image
                found = predict(model, image, _report(session, text))
                session.replace(number, found, budget, model.calibration)


def draw(session: Session, entry: Entry, model: Any) -> Iterator[str]:
    """Draws the samples of a picture, and shows the first of them."""
    session.stop = session.closed
    text = f"drawing alternatives of {entry.name}"
    yield text
    with suppress(StoppedError), _reported(session, entry.name):
        image = session.predicted(entry.number).image
        found = predict(model, image, _report(session, text))
        session.keep_drawn(entry.number, found)


def answer_all(session: Session) -> Iterator[str]:
    """Answers for all pictures at the threshold of the page, whatever it becomes meanwhile."""
    time.sleep(PAUSE)  # while a person still moves it
    tried = set[tuple[int, float]]()
    while not session.closed:
        threshold, numbers = session.threshold, session.unanswered()
        left = [number for number in numbers if (number, threshold) not in tried]
        if not left:
            return
        if (entry := session.entries.get(left[0])) is not None:
            yield f"threshold {threshold:g}, {len(left)} pictures to go: {entry.name}"
            with _reported(session, entry.name):
                session.answered(entry.number)
        tried.add((left[0], threshold))


def _report(session: Session, text: str) -> Callable[[float], None]:
    def report(share: float) -> None:
        if session.stop:
            raise StoppedError
        session.doing = f"{text}: {share:.0%}"

    report(0.0)
    return report


@contextmanager
def _reported(session: Session, name: str) -> Iterator[None]:
    """Turns whatever fails in a block into a line of the page, which begins with a name."""
    try:
        yield
    except StoppedError:
        raise
    except Exception as error:  # libraries raise nearly anything
        if not isinstance(error, UserError):
            logging.debug("%s", name, exc_info=error)
        line = one_line(error)
        session.add_problem(line if line.startswith(name) else f"{name}: {line}")
