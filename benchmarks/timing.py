"""Times workloads in turns, so that the load of the machine affects all of them equally."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Work = Callable[[], object]


class Sample(NamedTuple):
    """The measurements of one quantity.

    Attributes:
      values: one for each repeat, in their order; at least one.
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
      name: of the measured quantity.
      unit: "s", "ms", "GB", "x" (a ratio), ...
      sample: the values.
      bar: the limit of the median, if there is one.
      least: whether the bar is a lower limit, and not an upper one.
    """

    name: str
    unit: str
    sample: Sample
    bar: float | None = None
    least: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the median meets the bar; None if there is no bar."""
        if self.bar is None:
            return None
        median = self.sample.median
        return median >= self.bar if self.least else median <= self.bar


def figure(name: str, unit: str, value: float) -> Row:
    """Returns a row of a quantity that does not vary and needs no repeats."""
    return Row(name, unit, Sample((float(value),)))


def alternate(
    works: Mapping[str, Work],
    repeats: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Sample]:
    """Runs all workloads once per repeat and times each, so that the load is the same for all.

    Every second repeat has the reverse order: the after-effects of a workload, such as warm caches
    or threads that still spin, then affect both of its neighbours equally often.

    Args:
      works: by name; each returns when its result is there.
      repeats: timed runs of each workload, at least 1.
      warmup: untimed runs of each workload before them: the first run compiles.
      clock: returns seconds.

    Returns:
      Seconds, by name; value k of all samples was measured in the same repeat.
    """
    for work in works.values():
        for _ in range(warmup):
            work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats):
        names = list(works)
        for name in names if repeat % 2 == 0 else names[::-1]:
            start = clock()
            works[name]()
            times[name].append(clock() - start)
    return {name: Sample(tuple(values)) for name, values in times.items()}


def ratio(above: Sample, below: Sample) -> Sample:
    """Returns above / below for each repeat, in which both had the same load.

    Raises:
      ValueError: the samples are of different repeats.
    """
    return Sample(tuple(a / b for a, b in zip(above.values, below.values, strict=True)))


def load() -> tuple[float, ...]:
    """Returns the load averages of the machine over 1, 5 and 15 minutes, or () without them."""
    try:
        return os.getloadavg()
    except (AttributeError, OSError):  # Windows
        return ()


def rows_of(samples: Mapping[str, Sample], names: Sequence[str]) -> list[Row]:
    """Returns the rows, in milliseconds, of the names that were timed."""
    return [Row(name, "ms", samples[name].times(1e3)) for name in names if name in samples]
