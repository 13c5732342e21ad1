"""Writes the metrics of a run: metrics.jsonl, TensorBoard files, the log; measures its pace."""

import errno
import importlib
import json
import math
import os
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from clu import parameter_overview


def _import(name: str, stand_ins: Mapping[str, Any]) -> Any:
    """Imports a module while other modules are replaced; None: as if not installed.

    clu.metric_writers imports TensorFlow for its own TensorBoard writer, in a submodule whose name
    a test checks; tensorboardX imports an installed torch, which takes two seconds, to name it in
    annotations. Both stay importable. No other thread may import the replaced modules meanwhile.
    """
    modules: dict[str, Any] = sys.modules
    absent = {key: module for key, module in stand_ins.items() if key not in modules}
    modules.update(absent)
    try:
        return importlib.import_module(name)
    finally:
        for key in absent:
            del modules[key]


_NO_WRITER = types.SimpleNamespace(SummaryWriter=None)
clu_writers = _import("clu.metric_writers", {"clu.metric_writers.summary_writer": _NO_WRITER})
summary = _import("tensorboardX.summary", {"torch": None})
events = _import("tensorboardX.event_file_writer", {"torch": None})
protocol = _import("tensorboardX.proto.event_pb2", {"torch": None})


class TensorBoardWriter(clu_writers.MetricWriter):
    """Writes scalars through clu's interface with tensorboardX; refuses everything else.

    tensorboardX's own SummaryWriter hands events to a thread that ends at the first error, and then
    waits for that thread indefinitely; this one writes events directly.

    Args:
      directory: of the event files.
      start_step: TensorBoard hides what an earlier run wrote after this step.
    """

    def __init__(self, directory: Path, start_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._events = events.EventsWriter(str(directory / "events"))
        start = protocol.SessionLog(status=protocol.SessionLog.START)
        self._write(start_step + 1, session_log=start)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes the finite ones of a step's scalars; tensorboardX warns about the others."""
        for name, value in scalars.items():
            if math.isfinite(value):
                self._write(step, summary=summary.scalar(name, float(value)))
        self._events.flush()

    def _write(self, step: int, **content: Any) -> None:
        self._events.write_event(protocol.Event(wall_time=time.time(), step=step, **content))

    def _refuse(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("only scalars are written")

    write_summaries = write_images = write_videos = write_audios = _refuse
    write_texts = write_histograms = write_hparams = _refuse

    def flush(self) -> None:
        """Writes buffered events."""
        self._events.flush()

    def close(self) -> None:
        """Writes buffered events and closes the file, also on a full disk."""
        try:
            self._events.close()
        except OSError:  # it flushes first, and leaves a file open that it cannot flush
            self._events._py_recordio_writer.close()
            raise


class JsonLines:
    """Appends whole lines of JSON, one a step; a killed run truncates at most the last one.

    Args:
      path: of the file; its lines of steps after start_step are removed.
      start_step: the step from which the run resumes.
    """

    def __init__(self, path: Path, start_step: int) -> None:
        if path.exists():
            before = path.read_bytes()
            kept = b"".join(line for line in before.splitlines(True) if _step(line) <= start_step)
            if kept != before:
                partial = path.with_suffix(".jsonl.tmp")
                partial.write_bytes(kept)
                partial.replace(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends {"step", "time" (seconds since 1970), ...}; NaN and inf become null."""
        values = {k: float(v) if math.isfinite(v) else None for k, v in scalars.items()}
        line = {"step": step, "time": round(time.time(), 3)} | values
        text = f"{json.dumps(line)}\n".encode()
        before = os.fstat(self._file).st_size
        if os.write(self._file, text) < len(text):  # the disk is full
            os.ftruncate(self._file, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def _step(line: bytes) -> float:
    """Returns the step of a line; infinity for a truncated one."""
    try:
        return json.loads(line)["step"] if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


class RunWriter:
    """Writes metrics.jsonl immediately, TensorBoard files from a thread of clu's, parameters.txt.

    An error of writing is logged once and never ends a training run.

    Args:
      workdir: of the run; created if missing.
      start_step: the step of the checkpoint that the run resumes from; 0 for a new one.
      enabled: False in all processes of a job but the first: writes nothing.
    """

    def __init__(self, workdir: Path, start_step: int, enabled: bool = True) -> None:
        self._workdir, self._enabled, self._warned = workdir, enabled, False
        self._lines: JsonLines | None = None
        self._board: Any = None
        if enabled:
            self._guard(self._open, start_step)

    def _open(self, start_step: int) -> None:
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._lines = JsonLines(self._workdir / "metrics.jsonl", start_step)
        board = TensorBoardWriter(self._workdir / "tensorboard", start_step)
        self._board = clu_writers.AsyncMultiWriter([board])

    def _guard(self, action: Callable[..., object], *args: Any) -> None:
        try:
            action(*args)
        except Exception as error:  # of any kind: metrics are worth less than the run
            if not self._warned:
                logging.warning("metrics are not written any more, or not all: %s", error)
            self._warned = True

    def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars of a step; their names may differ from step to step."""
        if self._lines:
            self._guard(self._lines.write, step, scalars)
        if self._board:
            self._guard(self._board.write_scalars, step, dict(scalars))

    def parameters(self, params: Any) -> None:
        """Logs the parameters of each module, arrays or shapes; lists all in parameters.txt."""
        if self._enabled:
            for line in parameter_table(params):
                logging.info("%s", line)
            table = parameter_overview.get_parameter_overview(params, include_stats=False)
            self._guard((self._workdir / "parameters.txt").write_text, f"{table}\n")

    def close(self) -> None:
        """Writes buffered metrics and closes the files; a second call does nothing."""
        parts, self._lines, self._board = (self._lines, self._board), None, None
        for part in filter(None, parts):
            self._guard(part.close)


def parameter_table(params: Mapping[str, Any]) -> list[str]:
    """Returns a line of the number of all parameters, and one for each module of the network."""
    count = parameter_overview.count_parameters
    rows = [f"{count({name: of}):>13,}  {name}" for name, of in params.items()]
    return [f"{count(params):,} parameters", *rows]


class Pace:
    """Measures training steps per second since the last restart."""

    def __init__(self, step: int, last: int) -> None:
        self.step, self.last, self.since = step, last, time.monotonic()

    def restart(self, step: int | None = None) -> float:
        """Starts measuring at this step (None: one after the last start); returns the seconds."""
        before, self.since = self.since, time.monotonic()
        self.step = self.step + 1 if step is None else step
        return self.since - before

    def rate(self, step: int) -> float | None:
        """Returns steps per second since the last start, and restarts; None if none was taken."""
        taken, seconds = step - self.step, self.restart(step)
        return taken / seconds if taken else None


def log(writer: RunWriter, step: int, metrics: dict[str, float], pace: Pace) -> None:
    """Logs and writes the means of the metrics since the last log line."""
    line = f"update {step} of {pace.last}, loss {metrics['loss']:.5g}, mse {metrics['mse']:.4g}"
    if (rate := pace.rate(step)) is not None:
        line += f", {rate:.3g} updates/s, {(pace.last - step) / rate / 60:.1f} min left"
        metrics = metrics | {"steps_per_second": rate}
    logging.info("%s", line)
    writer.scalars(step, metrics)
