"""Profiles a training step on an accelerator: prints the kernels that take most of its time.

  python -m benchmarks.kernels --config=MoNuSeg --dtype=bfloat16 --batch=8

  --config=NAME     MoNuSeg, Vaihingen, Cityscapes or reduced
  --dtype, --remat  model.dtype and model.remat; default float32 and none
  --form=NAME       model.rrdb_form; default auto
  --batch=N         images of a training step; default: the config's
  --top=N           kernels to print; default 10
  --help            this text

Prints, for each kernel, milliseconds per training step, its share, its calls per step and its name.
"""

import argparse
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import options
from benchmarks.compiled import config_of
from benchmarks.network_input import side_of
from segdiff_jax.cli import app
from segdiff_jax.errors import UserError

UPDATES = 4  # in the trace


class Kernel(NamedTuple):
    """The total of all calls of a kernel.

    Attributes:
      name: of the kernel, or of the operation where there are no kernels.
      milliseconds: per training step.
      share: of the time of all kernels.
      times: calls per training step.
    """

    name: str
    milliseconds: float
    share: float
    times: float


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads a command line.

    Raises:
      UserError: anything that is misspelt.
    """
    parser = options.step_parser()
    parser.add_argument("--form", default="auto")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--top", type=int, default=10)
    return options.read(parser, arguments)


def events(folder: Path) -> Iterator[tuple[str, float]]:
    """Yields name and nanoseconds of the device events of a trace.

    On GPUs these are kernels and copies, on CPUs the operations of the program.

    Args:
      folder: the output of `jax.profiler.trace`.
    """
    from jax.profiler import ProfileData

    for file in folder.rglob("*.xplane.pb"):
        planes = list(ProfileData.from_file(str(file)).planes)
        devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
        for line in (line for plane in devices or planes for line in plane.lines):
            wanted = _is_stream if devices else _has_operation
            yield from ((e.name, e.duration_ns) for e in line.events if wanted(line, e))


def _is_stream(line: Any, event: Any) -> bool:
    return line.name.startswith("Stream")


def _has_operation(line: Any, event: Any) -> bool:
    with warnings.catch_warnings():  # of jaxlib about its own type
        warnings.simplefilter("ignore", DeprecationWarning)
        return any(name == "hlo_op" for name, _ in event.stats)


def summed(events: Iterator[tuple[str, float]], updates: int) -> list[Kernel]:
    """Sums (name, nanoseconds) by name; returns the longest first."""
    spent: dict[str, list[float]] = defaultdict(list)
    for name, nanoseconds in events:
        spent[name].append(nanoseconds)
    total = sum(map(sum, spent.values()))
    kernels = [
        Kernel(name, sum(times) / updates / 1e6, sum(times) / total, len(times) / updates)
        for name, times in spent.items()
    ]
    return sorted(kernels, key=lambda kernel: -kernel.milliseconds)


def kernels(values: argparse.Namespace) -> list[Kernel]:
    """Returns the kernels of a training step.

    Raises:
      UserError: there is no such config, or the trace has no device events.
    """
    import jax

    from benchmarks import ours
    from segdiff_jax.runtime import distributed

    config = ours.changed(config_of(values), model__rrdb_form=values.form)
    config.train.batch_size = values.batch or config.train.batch_size
    ours.start(config)
    mesh = distributed.all_devices()
    examples = ours.made_up(config.train.batch_size, side_of(config))
    rows = ours.constant_rows(config, examples, mesh)
    update = ours.training_step(config, mesh, rows)
    update()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(UPDATES):
                update()
        profiled = summed(events(Path(folder)), UPDATES)
    if not profiled:
        raise UserError("the profiler recorded no events of the device")
    return profiled


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code."""

    def run(arguments: list[str]) -> None:
        values = parse(arguments)
        profiled = kernels(values)
        print(f"{sum(k.milliseconds for k in profiled):.1f} ms an update, {len(profiled)} kernels")
        for k in profiled[: values.top]:
            print(f"{k.milliseconds:8.2f} ms {k.share:6.1%} {k.times:7.1f} x  {k.name}")

    return app.run(run, arguments, __doc__, "choose a smaller batch")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
