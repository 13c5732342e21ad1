"""Answers the events of the page: what a person does becomes a change of a session, and HTML.

Nothing here knows gradio: `page` names these functions to it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from absl import logging

from segdiff_jax.app import views, work
from segdiff_jax.app.session import Session
from segdiff_jax.app.sessions import Sessions
from segdiff_jax.app.uploads import Uploads
from segdiff_jax.app.work import Models
from segdiff_jax.cli import predict_args
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import UserError, one_line
from segdiff_jax.runtime import compilation

Parts = dict[str, str]  # HTML by name of a part


@dataclass(frozen=True)
class Handlers:
    """Answers events; `key` names the page that an event comes from.

    Attributes:
      sessions: of the pages.
      models: that predict.
      limits: of what is read.
      samples: how many alternatives are drawn of a picture.
    """

    sessions: Sessions
    models: Models
    limits: Limits
    samples: int

    @property
    def uploads(self) -> Uploads:
        """Files that were sent."""
        return self.sessions.uploads

    def begin(self, key: str) -> Parts:
        """Answers a page that was opened."""
        with _lines() as lines:
            session = self.sessions.of(key)
            return {"drop": views.drop(session, self.uploads.most_of_file), **views.parts(session)}
        return {"drop": "", "problems": views.problems(lines)}

    def end(self, key: str) -> None:
        """Forgets a page that is gone."""
        self.sessions.close(key)

    def take(self, key: str, budget: Any) -> Iterator[Parts]:
        """Predicts the files that were sent, one after the other."""

        def steps(session: Session) -> Iterator[str]:
            if not self.uploads.waiting(session.token):
                return
            yield "reading the network"
            if (model := self._model(session, budget, 0)) is None:
                self.uploads.drop_all(session.token)
                return
            yield from work.take(session, self.uploads, model, _budget(budget), self.limits)

        yield from self._worked(key, steps)

    def predict_again(self, key: str, budget: Any) -> Iterator[Parts]:
        """Predicts all pictures by another budget."""

        def steps(session: Session) -> Iterator[str]:
            if session.entries and (model := self._model(session, budget, 0)) is not None:
                yield from work.predict_again(session, model, _budget(budget))

        yield from self._worked(key, steps)

    def alternatives(self, key: str, budget: Any) -> Iterator[Parts]:
        """Shows the next alternative of a picture; they are drawn when first asked for."""

        def steps(session: Session) -> Iterator[str]:
            entry = session.entries.get(session.shown)
            if entry is None:
                return
            if entry.drawn:
                session.show_alternative()
                return
            yield f"drawing {self.samples} alternatives of {entry.name}"
            if (model := self._model(session, budget, self.samples)) is not None:
                yield from work.draw(session, entry, model)

        yield from self._worked(key, steps)

    def set_threshold(self, key: str, threshold: Any) -> Parts:
        """Sets the threshold, and answers for the picture that is shown."""

        def change(session: Session) -> None:
            allowed = predict_args.VALUES["threshold"][1]
            if not allowed.accepts(threshold):
                raise UserError(f"threshold {str(threshold)[:50]}: must be {allowed.text}")
            session.threshold = float(threshold)

        return self._changed(key, change)

    def answer_all(self, key: str) -> Iterator[Parts]:
        """Answers for all pictures at the threshold."""
        yield from self._worked(key, work.answer_all)

    def show(self, key: str, number: Any) -> Parts:
        """Shows a picture."""
        return self._changed(key, lambda session: session.show(_whole(number)))

    def show_next(self, key: str, by: int) -> Parts:
        """Shows the next picture of the list, or the one before."""
        return self._changed(key, lambda session: session.show_next(by))

    def show_object(self, key: str, label: Any) -> Parts:
        """Shows a part of the picture with an object."""
        return self._changed(key, lambda session: session.show_object(_whole(label)))

    def show_whole(self, key: str) -> Parts:
        """Shows the whole picture, and the outlines of its mask."""
        return self._changed(key, lambda session: session.shown and session.show(session.shown))

    def show_alternative(self, key: str, number: Any) -> Parts:
        """Shows one of the alternatives."""
        return self._changed(key, lambda session: session.choose_alternative(_whole(number)))

    def remove(self, key: str, number: Any) -> Parts:
        """Removes a picture."""
        return self._changed(key, lambda session: session.remove(_whole(number)))

    def clear(self, key: str) -> Parts:
        """Removes all pictures, and the lines about what failed."""
        return self._changed(key, Session.clear)

    def stop(self, key: str) -> None:
        """Ends what is running for a page."""
        if (session := self.sessions.find(key)) is not None:
            session.stop = True

    def _changed(self, key: str, change: Callable[[Session], object]) -> Parts:
        """Returns the page after a change; what fails is a line on it."""
        with _lines() as lines:
            session = self.sessions.of(key)
            with _lines(session):
                change(session)
            return views.parts(session)
        return {"problems": views.problems(lines)}

    def _worked(self, key: str, steps: Callable[[Session], Iterator[str]]) -> Iterator[Parts]:
        """Yields the page after each step: what is new of it."""
        with _lines() as lines:
            session = self.sessions.of(key)
            before: Parts = {}
            with _lines(session), _compiling(session):
                for text in steps(session):
                    session.doing = text
                    new = {"status": views.status(text), **views.parts(session)}
                    yield {name: part for name, part in new.items() if before.get(name) != part}
                    before = new
            session.doing = ""
            yield {"status": views.status(), **views.parts(session)}
        if lines:
            yield {"problems": views.problems(lines)}

    def _model(self, session: Session, budget: Any, samples: int) -> Any:
        """Returns a model; None: there is none, and the page says why."""
        with _lines(session):
            return self.models.get(_budget(budget), samples)
        return None


def _budget(given: Any) -> str:
    allowed = predict_args.VALUES["budget"][1]
    if not allowed.accepts(given):
        raise UserError(f"budget {str(given)[:50]!r}: must be {allowed.text}")
    return given


def _whole(given: Any) -> int:
    with suppress(TypeError, ValueError, OverflowError):
        return int(given)
    return 0


@contextmanager
def _compiling(session: Session) -> Iterator[None]:
    """Says on the page what is compiled during a block."""

    def tell(what: str) -> None:
        if what:
            session.doing = f"compiling for {what}: the first time takes long"

    with compilation.reported_to(tell):
        yield


@contextmanager
def _lines(session: Session | None = None) -> Iterator[list[str]]:
    """Turns what fails in a block into a line: of a session, or of the list that it yields."""
    lines: list[str] = []
    try:
        yield lines
    except Exception as error:  # libraries raise nearly anything
        if not isinstance(error, UserError):
            logging.error("%s", one_line(error), exc_info=error)
        keep = lines.append if session is None else session.add_problem
        keep(one_line(error))
