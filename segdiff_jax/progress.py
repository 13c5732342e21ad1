"""What people see of a run while it goes on: its numbers and its pace."""

import time

from absl import logging

from segdiff_jax.writers import Writer


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

    def rate(self, step: int) -> float | None:
        """Updates a second since the last start; None where none was made."""
        made = step - self.step
        seconds = self.restart(step)
        return made / seconds if made else None


def log(writer: Writer, step: int, numbers: dict[str, float], pace: Pace) -> None:
    """Writes the numbers of the updates since the last line, for people and for machines."""
    rate = pace.rate(step)
    told = f"update {step} of {pace.last}, loss {numbers['loss']:.5g}, mse {numbers['mse']:.4g}"
    if rate is not None:
        told += f", {rate:.3g} updates/s, {(pace.last - step) / rate / 60:.1f} min left"
        numbers = numbers | {"steps_per_second": rate}
    logging.info("%s", told)
    writer.scalars(step, numbers)
