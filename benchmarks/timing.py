"""Times of things that are compared: taken in turns, so that a loaded machine is unfair to none."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Work = Callable[[], object]


class Sample(NamedTuple):
    """What was measured, once a repeat.

    Attributes:
      values: in the order of the repeats, at least one.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value, or the mean of the middle two."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    def times(self, factor: float) -> "Sample":
        """Returns every value times a factor."""
        return Sample(tuple(factor * value for value in self.values))


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      name: what was measured.
      unit: "s", "ms", "GB", "x" (a ratio), ...
      sample: the values.
      bar: what the median is held to; None: nothing.
      least: whether the bar is the least that is allowed, and not the most.
    """

    name: str
    unit: str
    sample: Sample
    bar: float | None = None
    least: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the median is on the right side of the bar; None: there is no bar."""
        if self.bar is None:
            return None
        median = self.sample.median
        return median >= self.bar if self.least else median <= self.bar


def figure(name: str, unit: str, value: float) -> Row:
    """Returns a row of what needs no repeats, because it does not vary."""
    return Row(name, unit, Sample((float(value),)))


def alternate(
    works: Mapping[str, Work],
    repeats: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Sample]:
    """Runs all works once a repeat and times each, so that they meet the same load.

    Every second repeat goes through them backwards: what one leaves behind, such as warm caches or
    threads that still spin, then serves each of its neighbours equally often.

    Args:
      works: by name; each returns when its result is there.
      repeats: how often each is timed, at least 1.
      warmup: how often each is run before, untimed: the first call compiles.
      clock: seconds.

    Returns:
      Seconds, by name; value k of all samples was measured in the same repeat.
    """
    for work in works.values():
        for _ in range(warmup):
            work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats):
        names = list(works)
        for name in names if repeat % 2 == 0 else names[::-1]:
            start = clock()
            works[name]()
            taken[name].append(clock() - start)
    return {name: Sample(tuple(values)) for name, values in taken.items()}


def ratio(above: Sample, below: Sample) -> Sample:
    """Returns above / below, one value a repeat: each of two that met the same load.

    Raises:
      ValueError: the samples are of different repeats.
    """
    return Sample(tuple(a / b for a, b in zip(above.values, below.values, strict=True)))


def load() -> tuple[float, ...]:
    """Returns the load averages of the machine over 1, 5 and 15 minutes; () where it has none."""
    try:
        return os.getloadavg()
    except (AttributeError, OSError):  # Windows
        return ()


def rows_of(samples: Mapping[str, Sample], names: Sequence[str]) -> list[Row]:
    """Returns the rows, in milliseconds, of those of the names that were timed."""
    return [Row(name, "ms", samples[name].times(1e3)) for name in names if name in samples]
