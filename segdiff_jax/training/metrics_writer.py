"""What people see of a run while it goes on: its numbers and its pace."""

import errno
import importlib
import json
import math
import os
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from absl import logging


@contextmanager
def hide_package(package: str) -> Iterator[None]:
    """Within it, importing a package that is not imported yet is the error of one not installed.

    Only for imports: no other thread should be importing the package meanwhile.

    Args:
      package: the name of the top-level package.
    """
    modules: dict[str, Any] = sys.modules
    if package in modules:
        yield
        return
    modules[package] = None  # as the documentation of `import` has it
    try:
        yield
    finally:
        del modules[package]


with hide_package("torch"):  # only to be named in annotations, and it takes two seconds
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog


METRICS = "metrics.jsonl"


def _clu_writers() -> types.ModuleType:
    """Returns clu.metric_writers, without the TensorFlow that its own TensorBoard writer imports.

    That writer comes from one submodule, so an empty one is put in its place first. (clu 0.0.12;
    the bound in requirements.txt and a test hold the name of the submodule.)
    """
    name = "clu.metric_writers.summary_writer"
    if name not in sys.modules:
        stand_in = types.ModuleType(name)
        setattr(stand_in, "SummaryWriter", None)  # noqa: B010 (a module has no such attribute yet)
        sys.modules[name] = stand_in
    return importlib.import_module("clu.metric_writers")


clu_writers = _clu_writers()


class TensorBoardWriter(clu_writers.MetricWriter):
    """clu's interface over tensorboardX; what the project does not write is not supported.

    Attributes:
      directory: where the event files go.
      start_step: what an earlier run wrote after this step is hidden by TensorBoard.
    """

    def __init__(self, directory: Path, start_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # tensorboardX's own SummaryWriter hands everything to a thread, which ends at the first
        # error, and then waits for it for ever
        self._events = EventsWriter(str(directory / "events"))
        begun = SessionLog(status=SessionLog.START)
        self._write(start_step + 1, session_log=begun)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes floats; tensorboardX complains about what is not finite, so that is left out."""
        for name, value in scalars.items():
            if math.isfinite(value):
                self._write(step, summary=summary.scalar(name, float(value)))
        self._events.flush()

    def _write(self, step: int, **what: Any) -> None:
        self._events.write_event(Event(wall_time=time.time(), step=step, **what))

    def _refuse(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("only scalars are written")

    write_summaries = write_images = write_videos = write_audios = _refuse
    write_texts = write_histograms = write_hparams = _refuse

    def flush(self) -> None:
        """Writes what is held back."""
        self._events.flush()

    def close(self) -> None:
        """Writes what is held back and closes the file."""
        self._events.close()


class JsonLines:
    """One line of JSON a step, appended whole, so that a killed run tears at most the last one."""

    def __init__(self, path: Path, start_step: int) -> None:
        if path.exists():
            _cut(path, start_step)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends {"step", "time" (seconds since 1970), ...}; what is not finite becomes null."""
        line = {"step": step, "time": round(time.time(), 3)}
        line |= {k: float(v) if math.isfinite(v) else None for k, v in scalars.items()}
        text = f"{json.dumps(line)}\n".encode()
        before = os.fstat(self._file).st_size
        if os.write(self._file, text) < len(text):  # the disk is full
            os.ftruncate(self._file, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def _cut(path: Path, start_step: int) -> None:
    """Keeps the whole lines of steps up to start_step, in one atomic replacement."""
    before = path.read_bytes()
    kept = b"".join(line for line in before.splitlines(True) if _step(line) <= start_step)
    if kept != before:
        partial = path.with_suffix(".jsonl.tmp")
        partial.write_bytes(kept)
        os.replace(partial, path)


def _step(line: bytes) -> float:
    """Returns the step of a line; infinity for a torn one."""
    try:
        return json.loads(line)["step"] if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


class Writer(Protocol):
    """Where the numbers of a run go."""

    def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers of a step; names may differ from step to step."""

    def flush(self) -> None:
        """Waits until everything is written."""

    def close(self) -> None:
        """Writes what is held back; nothing may be written after it."""


class NoWriter:
    """The writer of the processes that do not write."""

    def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class RunWriter:
    """Writes metrics.jsonl at once, and TensorBoard files from a thread of clu's."""

    def __init__(self, workdir: Path, start_step: int) -> None:
        self._lines: JsonLines | None = None
        self._board: Any = None
        self._told = False
        self._guard(self._open, workdir, start_step)

    def _open(self, workdir: Path, start_step: int) -> None:
        workdir.mkdir(parents=True, exist_ok=True)
        self._lines = JsonLines(workdir / METRICS, start_step)
        board = TensorBoardWriter(workdir / "tensorboard", start_step)
        self._board = clu_writers.AsyncMultiWriter([board])

    def _guard(self, act: Callable[..., None], *args: Any) -> None:
        try:
            act(*args)
        except Exception as error:  # whatever it is, it must not cost a training run
            if not self._told:
                logging.warning("metrics are not written any more, or not all: %s", error)
            self._told = True

    def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers of a step; names may differ from step to step."""
        if self._lines:
            self._guard(self._lines.write, step, scalars)
        if self._board:
            self._guard(self._board.write_scalars, step, dict(scalars))

    def flush(self) -> None:
        """Waits until everything is written."""
        if self._board:
            self._guard(self._board.flush)

    def close(self) -> None:
        """Writes what is held back and closes the files; a second call does nothing."""
        lines, board, self._lines, self._board = self._lines, self._board, None, None
        for part in (lines, board):
            if part:
                self._guard(part.close)


def open_writer(workdir: Path, start_step: int, enabled: bool = True) -> Writer:
    """Returns a writer of what comes after start_step; lines of later steps are cut off.

    Args:
      workdir: gets metrics.jsonl and tensorboard/; made if need be.
      start_step: the step of the checkpoint the run goes on from; 0 for a new one.
      enabled: False in all processes of a job but the first.
    """
    return RunWriter(Path(workdir), start_step) if enabled else NoWriter()


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
