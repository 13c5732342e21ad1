"""Asynchronous read-back of training metrics, and the policy for non-finite steps.

The host reads the metrics of step n while the devices run step n + 8, so the devices never wait for
it. That is safe because the step itself (`Learner.train_step`) discards an update whose loss or
gradient is NaN or inf: the weights on the devices are finite whenever the host looks.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from absl import logging

from segdiff_jax.errors import INTERNAL, UserError
from segdiff_jax.training.step import Metrics

# Enough to hide the host; few enough for a quick Ctrl-C, and for the collectives of virtual CPU
# devices, which time out behind a long queue.
MAX_STEPS_IN_FLIGHT = 8
MAX_NAMES = 4  # of rows, in a message
METRICS = ("loss", "mse", "grad_norm")
CHECKED = ("loss", "grad_norm")  # by the step


@dataclass
class MetricsBuffer:
    """Holds the metrics of the steps since the last log line.

    Attributes:
      max_skipped: non-finite steps in a row that do not end the run.
      row_names: number of a step -> names of the examples in its rows.
      last_good: returns a phrase naming the checkpoint to resume from.
      skipped: steps without effect since the last `pop_means`.
    """

    max_skipped: int
    row_names: Callable[[int], Sequence[str]]
    last_good: Callable[[], str]
    skipped: int = 0
    _in_a_row: int = 0
    _pending: deque[tuple[int, Metrics]] = field(default_factory=deque)
    _read: list[list[float]] = field(default_factory=list)

    def push(self, step: int, metrics: Metrics) -> None:
        """Appends the metrics of a step; reads those of `MAX_STEPS_IN_FLIGHT` steps before.

        Raises:
          UserError: too many steps in a row were not finite.
        """
        self._pending.append((step, metrics))
        if len(self._pending) > MAX_STEPS_IN_FLIGHT:
            self._read_oldest()

    def flush(self) -> None:
        """Waits for all steps and reads their metrics; raises as `push` does."""
        while self._pending:
            self._read_oldest()

    def pop_means(self) -> dict[str, float]:
        """Returns the means over the steps since the last call; nan if all were skipped."""
        self.flush()
        rows = self._read or [[math.nan] * len(METRICS)]
        found: dict[str, float] = dict(zip(METRICS, np.mean(rows, axis=0).tolist(), strict=True))
        if self.max_skipped:
            found["skipped"] = self.skipped
        self._read, self.skipped = [], 0
        return found

    def _read_oldest(self) -> None:
        step, metrics = self._pending.popleft()
        values = {name: float(_to_host(metrics[name])) for name in METRICS}
        if all(math.isfinite(values[name]) for name in CHECKED):
            self._read.append(list(values.values()))
            self._in_a_row = 0
            return
        self._in_a_row, self.skipped = self._in_a_row + 1, self.skipped + 1
        found = ", ".join(f"{name} is {values[name]}" for name in CHECKED)
        rows = _describe(_to_host(metrics["finite_rows"]), self.row_names(step))
        if self._in_a_row <= self.max_skipped:
            count = f"{self._in_a_row} of {self.max_skipped} allowed in a row"
            logging.warning("update %d had no effect (%s): %s; %s", step, count, found, rows)
            return
        hint = "train.skip_nonfinite lets single updates pass; " if not self.max_skipped else ""
        raise UserError(
            f"update {step}: {found}; {rows}; {self.last_good()}; a smaller train.learning_rate "
            f"or train.clip_norm=1 may help, {hint}the same command would end here again",
            INTERNAL,
        )


def _to_host(x: jax.Array) -> np.ndarray:
    """Returns a replicated array; waits for it."""
    return np.asarray(x.addressable_data(0))


def _describe(finite: np.ndarray, names: Sequence[str]) -> str:
    """Returns which rows have a loss that is not finite."""
    bad = np.flatnonzero(~finite).tolist()
    if not bad:
        return f"the losses of its rows are finite, their gradient is not: {_abridge(names)}"
    count = f"the loss of {len(bad)} of its {finite.size} rows is not finite"
    return f"{count}: {_abridge([f'row {i} ({names[i]})' for i in bad])}"


def _abridge(texts: Sequence[str]) -> str:
    return ", ".join(texts[:MAX_NAMES]) + (", ..." if len(texts) > MAX_NAMES else "")
