"""What people see of a run while it goes on: its numbers and its pace."""

import math
import time

from absl import logging


class Pace:
    """Updates a second and the time left, from the clock."""

    def __init__(self, step: int, last: int) -> None:
        self.step, self.last, self.since = step, last, time.monotonic()

    def restart(self, step: int | None = None) -> float:
        """Starts to measure from here; returns the seconds since the last start."""
        now = time.monotonic()
        seconds, self.since = now - self.since, now
        self.step = self.step + 1 if step is None else step
        return seconds

    def rate(self, step: int) -> float:
        """Updates a second since the last start (nan where none was made)."""
        made = step - self.step
        seconds = self.restart(step)
        return made / seconds if made else math.nan


def log(writer, step: int, numbers: dict[str, float], pace: Pace) -> None:
    """Writes the numbers of the updates since the last line, for people and for machines."""
    rate = pace.rate(step)
    left = "?" if math.isnan(rate) else f"{(pace.last - step) / rate / 60:.1f} min"
    logging.info(
        "update %d of %d, loss %.5g, mse %.4g, %.3g updates/s, %s left",
        step,
        pace.last,
        numbers["loss"],
        numbers["mse"],
        rate,
        left,
    )
    writer.scalars(step, numbers | {"steps_per_second": rate})
