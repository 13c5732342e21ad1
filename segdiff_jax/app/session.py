"""Holds the pictures of one page in a browser, and what of them it shows."""

import secrets
import threading
import time
from dataclasses import dataclass, field

from segdiff_jax.app import answers, layers
from segdiff_jax.app.answers import Answered, Line
from segdiff_jax.app.exports import Source
from segdiff_jax.app.layers import Window
from segdiff_jax.app.pictures import Picture, unique
from segdiff_jax.app.predicted import Predicted
from segdiff_jax.app.store import Store
from segdiff_jax.app.tables import worst_first
from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.data.image_io.pixel_size import Scale
from segdiff_jax.data.image_io.writing import Tags
from segdiff_jax.errors import BAD_DATA, UserError

MOST_PICTURES = 500  # of a page
MOST_PROBLEMS = 50  # lines that are kept
GONE = "this picture is gone: drop it again"


@dataclass
class Entry:
    """A picture of a page.

    Attributes:
      number: from 1, in the order in which they came.
      name, tags, scale, values: of the `Picture`.
      shape: (H, W).
      budget: by which it was predicted.
      calibration: that holds for the prediction.
      line: what was last answered.
      drawn: how many samples are kept.
      version: of the predictions that are kept; another one is another picture to the browser.
    """

    number: int
    name: str
    tags: Tags
    scale: Scale | None
    values: str
    shape: tuple[int, int]
    budget: str = ""
    calibration: Calibration | None = None
    line: Line | None = None
    drawn: int = 0
    version: int = 0


@dataclass
class Session:
    """The pictures of one page; every method may be called by any thread.

    Attributes:
      store: that keeps the predictions.
      threshold: of the masks.
      token: by which the page asks for pictures and files; nobody can guess it.
      entries: the pictures by number.
      shown: number of the one that is shown; 0: none.
      window: the part of it that is; None: all.
      chosen: label of the object that it is around; 0: none.
      alternative: number of the sample whose outlines are shown; 0: those of the mask.
      problems: lines about pictures that failed.
      doing: what is being done at the moment, for people; "": nothing.
      stop: whether what is running shall end.
      closed: whether the page is gone.
    """

    store: Store
    threshold: float
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    entries: dict[int, Entry] = field(default_factory=dict)
    shown: int = 0
    window: Window | None = None
    chosen: int = 0
    alternative: int = 0
    problems: list[str] = field(default_factory=list)
    doing: str = ""
    stop: bool = False
    closed: bool = False
    used: float = field(default_factory=time.monotonic)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _last: int = 0

    def add(self, picture: Picture, found: Predicted, budget: str, of: Calibration | None) -> Entry:
        """Adds a picture that was predicted; the first one is shown.

        Raises:
          UserError: there are too many, or too many bytes.
        """
        with self.lock:
            if len(self.entries) >= MOST_PICTURES:
                what = f"{picture.name}: the page holds {MOST_PICTURES} pictures, the most"
                raise UserError(f"{what}: remove some first", BAD_DATA)
            self._last += 1
            name = unique(picture.name, {entry.name for entry in self.entries.values()})
            more = picture.tags, picture.scale, picture.values, picture.pixels.shape[:2]
            entry = Entry(self._last, name, *more)
        self._keep(entry, found, budget, of)
        with self.lock:
            self.entries[entry.number] = entry
            if self.shown not in self.entries:
                self.show(entry.number)
        return entry

    def replace(
        self, number: int, found: Predicted, budget: str, calibration: Calibration | None
    ) -> None:
        """Keeps another prediction of a picture, unless it is gone by now."""
        if (entry := self.entries.get(number)) is not None:
            self.store.drop(self.token, f"{number}-drawn")
            entry.drawn = 0
            self._keep(entry, found, budget, calibration)

    def keep_drawn(self, number: int, drawn: Predicted) -> None:
        """Keeps a prediction of a picture with samples, and shows the first of them."""
        if (entry := self.entries.get(number)) is None or drawn.samples is None:
            return
        self.store.put(self.token, f"{number}-drawn", drawn)
        with self.lock:
            entry.drawn, entry.line = len(drawn.samples), None
            if self.shown == number:
                self.alternative = 1

    def _keep(
        self, entry: Entry, found: Predicted, budget: str, calibration: Calibration | None
    ) -> None:
        self.store.put(self.token, str(entry.number), found)
        if self.closed:  # meanwhile
            self.store.drop(self.token)
        with self.lock:
            entry.budget, entry.calibration, entry.line = budget, calibration, None
            entry.version += 1

    def predicted(self, number: int) -> Predicted:
        """Returns the prediction of a picture; UserError: it is gone."""
        try:
            return self.store.get(self.token, str(number))
        except (KeyError, OSError) as error:
            raise UserError(GONE, BAD_DATA) from error

    def samples(self, number: int) -> Predicted | None:
        """Returns the prediction of a picture with samples; None: none were drawn."""
        entry = self.entries.get(number)
        if entry is None or not entry.drawn:
            return None
        return self.store.get(self.token, f"{number}-drawn")

    def answered(self, number: int) -> Answered:
        """Answers for a picture at the threshold of the page.

        Raises:
          UserError: it is gone, or too large.
        """
        if (entry := self.entries.get(number)) is None:
            raise UserError(GONE, BAD_DATA)
        key = self.token, number, entry.version, entry.drawn, self.threshold
        found = self.store.recent.get(key, lambda: self._answer(entry, key[-1]), _bytes)
        with self.lock:
            if found.line.threshold == self.threshold:
                entry.line = found.line
        return found

    def _answer(self, entry: Entry, threshold: float) -> Answered:
        found, drawn = self.predicted(entry.number), self.samples(entry.number)
        of = entry.name, entry.scale
        return answers.answer(found, drawn, threshold, entry.calibration, of)

    def source(self, number: int) -> Source:
        """Returns what files of a picture are made of."""
        answered, entry = self.answered(number), self.entries[number]
        return entry.name, entry.tags, entry.scale, answered

    def show(self, number: int) -> None:
        """Shows a whole picture; UserError: it is gone."""
        with self.lock:
            if number not in self.entries:
                raise UserError(GONE, BAD_DATA)
            self._show(number)

    def _show(self, number: int) -> None:
        self.shown, self.window, self.chosen, self.alternative = number, None, 0, 0

    def show_next(self, by: int) -> None:
        """Shows the next picture of the list, or the one before it."""
        with self.lock:
            numbers = self.order()
            if numbers:
                place = numbers.index(self.shown) if self.shown in numbers else -by
                self.show(numbers[(place + by) % len(numbers)])

    def show_object(self, label: int) -> None:
        """Shows a window around an object of the picture that is shown."""
        rows = {one.row.label: one.row for one in self.answered(self.shown).objects}
        if label in rows:
            self.window = layers.around(rows[label], self.entries[self.shown].shape)
            self.chosen = label

    def show_alternative(self) -> None:
        """Shows the next sample, and the mask after the last."""
        with self.lock:
            if (entry := self.entries.get(self.shown)) is not None:
                self.alternative = (self.alternative + 1) % (entry.drawn + 1)

    def choose_alternative(self, number: int) -> None:
        """Shows a sample; its own number again: the mask."""
        with self.lock:
            if (entry := self.entries.get(self.shown)) is not None and 0 < number <= entry.drawn:
                self.alternative = 0 if self.alternative == number else number

    def seen(self) -> Window:
        """Returns the part that is shown."""
        return self.window or layers.whole(self.entries[self.shown].shape)

    def lines(self) -> list[tuple[int, str, Line | None]]:
        """Returns number, name and last answer of each picture."""
        with self.lock:
            return [(one.number, one.name, one.line) for one in self.entries.values()]

    def order(self) -> list[int]:
        """Returns the numbers of the pictures, worst first."""
        return [number for number, _, _ in worst_first(self.lines())]

    def unanswered(self) -> list[int]:
        """Returns the numbers of pictures without a line for the threshold, that shown first."""
        threshold = self.threshold
        lines = {number: line for number, _, line in self.lines()}
        numbers = sorted(self.order(), key=lambda number: number != self.shown)
        of_number = ((number, lines.get(number)) for number in numbers)
        return [number for number, line in of_number if not line or line.threshold != threshold]

    def remove(self, number: int) -> None:
        """Removes a picture; the next one is shown."""
        with self.lock:
            if number not in self.entries:
                return
            numbers = self.order()
            following = numbers[(numbers.index(number) + 1) % len(numbers)]
            del self.entries[number]
            if self.shown == number:
                self._show(0 if following == number else following)
        for name in (str(number), f"{number}-drawn"):
            self.store.drop(self.token, name)

    def clear(self) -> None:
        """Removes all pictures and all lines."""
        with self.lock:
            self.stop = True
            self.entries.clear()
            self.problems = []
            self._show(0)
        self.store.drop(self.token)

    def add_problem(self, line: str) -> None:
        """Keeps a line about something that failed."""
        with self.lock:
            self.problems = [*self.problems, line][-MOST_PROBLEMS:]

    def close(self) -> None:
        """Ends what is running, and removes everything."""
        self.stop = self.closed = True
        with self.lock:
            self.entries.clear()
        self.store.drop(self.token)


def _bytes(answered: Answered) -> int:
    return answered.labels.nbytes + answered.mask.nbytes + 500 * len(answered.objects)
