"""What is known of a run while it goes on: its pace, its numbers, and whether they are numbers."""

import math
import time

import jax
import numpy as np
from absl import logging

from segdiff_jax.errors import INTERNAL, UserError


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


def log(writer, step: int, window: list[dict[str, jax.Array]], pace: Pace) -> None:
    """Writes the means over the updates since the last line, for people and for machines."""
    numbers = {name: float(np.mean([on_host(m[name]) for m in window])) for name in window[0]}
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


def on_host(x: jax.Array) -> float:
    """Returns a replicated scalar; waits for it."""
    return float(np.asarray(x.addressable_data(0)))


def check_finite(step: int, metrics: dict[str, jax.Array]) -> None:
    """Refuses to save what has become useless.

    Raises:
      UserError: the loss or the gradient is not a number.
    """
    for name, x in metrics.items():
        value = on_host(x)
        if not math.isfinite(value):
            raise UserError(
                f"{name} is {value} at update {step}; nothing was saved since the checkpoint "
                "before; a smaller train.learning_rate or train.clip_norm = 1 may help",
                INTERNAL,
            )
