"""The numbers of the updates, read a little late, and what happens when they are no numbers.

The step itself refuses an update whose loss or gradient is not finite (`step.train_step`), so the
weights on the devices are good whenever the host looks. That is why it may look late: the devices
never wait for it.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import logging

from segdiff_jax.errors import INTERNAL, UserError
from segdiff_jax.training.step import Metrics

# Updates the host may run ahead of the devices: enough to hide it, few enough for Ctrl-C to be
# quick and for the collectives of virtual CPU devices, which time out behind a long queue.
MAX_STEPS_IN_FLIGHT = 8


SHOWN = 4  # rows that are named, at most


NUMBERS = ("loss", "mse", "grad_norm")


DECISIVE = ("loss", "grad_norm")  # those that the step looks at


class MetricsBuffer:
    """The numbers of a run since its last line in the log.

    Attributes:
      skipped: updates without effect since `take` was called last.
    """

    def __init__(
        self, allowed: int, names: Callable[[int], Sequence[str]], last_good: Callable[[], str]
    ) -> None:
        """Begins without numbers.

        Args:
          allowed: updates in a row that may be without effect.
          names: number of an update -> what its rows show.
          last_good: says where the run would go on from.
        """
        self._allowed, self._names, self._last_good = allowed, names, last_good
        self._pending: deque[tuple[int, Metrics]] = deque()
        self._read: list[list[float]] = []
        self._in_a_row = self.skipped = 0

    def push(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of a step and reads those of `MAX_STEPS_IN_FLIGHT` steps before.

        Raises:
          UserError: too many updates in a row were not finite.
        """
        self._pending.append((step, metrics))
        if len(self._pending) > MAX_STEPS_IN_FLIGHT:
            self._look()

    def flush(self) -> None:
        """Waits for all updates and looks at them; raises as `add` does."""
        while self._pending:
            self._look()

    def pop_means(self) -> dict[str, float]:
        """Returns the means over the updates since the last call; nan if all were skipped."""
        self.flush()
        means = np.mean(self._read, axis=0) if self._read else np.full(len(NUMBERS), math.nan)
        found: dict[str, float] = dict(zip(NUMBERS, means.tolist(), strict=True))
        if self._allowed:
            found["skipped"] = self.skipped
        self._read, self.skipped = [], 0
        return found

    def _look(self) -> None:
        step, metrics = self._pending.popleft()
        values = {name: float(_on_host(metrics[name])) for name in NUMBERS}
        if all(math.isfinite(values[name]) for name in DECISIVE):
            self._read.append(list(values.values()))
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self.skipped += 1
        found = ", ".join(f"{name} is {values[name]}" for name in DECISIVE)
        rows = _describe(_on_host(metrics["finite_rows"]), self._names(step))
        if self._in_a_row <= self._allowed:
            count = f"{self._in_a_row} of {self._allowed} allowed in a row"
            logging.warning("update %d had no effect (%s): %s; %s", step, count, found, rows)
            return
        hint = "train.skip_nonfinite lets single updates pass; " if not self._allowed else ""
        raise UserError(
            f"update {step}: {found}; {rows}; {self._last_good()}; a smaller train.learning_rate "
            f"or train.clip_norm=1 may help, {hint}the same command would end here again",
            INTERNAL,
        )


def _on_host(x: jax.Array) -> np.ndarray:
    """Returns a replicated array; waits for it."""
    return np.asarray(x.addressable_data(0))


def _describe(finite: np.ndarray, names: Sequence[str]) -> str:
    """Returns which rows are to blame, as far as their own losses tell."""
    bad = np.flatnonzero(~finite).tolist()
    if not bad:
        return f"the losses of its rows are finite, their gradient is not: {_few(names)}"
    count = f"the loss of {len(bad)} of its {finite.size} rows is not finite"
    return f"{count}: {_few([f'row {i} ({names[i]})' for i in bad])}"


def _few(texts: Sequence[str]) -> str:
    return ", ".join(texts[:SHOWN]) + (", ..." if len(texts) > SHOWN else "")
