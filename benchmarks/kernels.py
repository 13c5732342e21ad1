"""Where the time of updates goes on an accelerator: the kernels that take most of it.

  python -m benchmarks.kernels --config=MoNuSeg --dtype=bfloat16 --batch=8

  --config=NAME     MoNuSeg, Vaihingen, Cityscapes or reduced
  --dtype, --remat  model.dtype and model.remat; float32 and none if not given
  --form=NAME       model.rrdb_form; auto if not given
  --batch=N         images of an update; the config's if not given
  --top=N           kernels to print; 10 if not given
  --help            this text

Prints, for each kernel, milliseconds an update, its share, how often it runs and its name.
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

UPDATES = 4  # that are looked at


class Kernel(NamedTuple):
    """What a device did under one name.

    Attributes:
      name: of the kernel, or of the operation where there are no kernels.
      milliseconds: of an update.
      share: of the time of all kernels.
      times: that it runs in an update.
    """

    name: str
    milliseconds: float
    share: float
    times: float


def parse(words: list[str]) -> argparse.Namespace:
    """Reads a command line.

    Raises:
      UserError: anything that is misspelt.
    """
    parser = options.of_an_update()
    parser.add_argument("--form", default="auto")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--top", type=int, default=10)
    return options.read(parser, words)


def events(folder: Path) -> Iterator[tuple[str, float]]:
    """Yields name and nanoseconds of all that a trace says the devices did.

    On GPUs these are kernels and copies, on CPUs the operations of the program.

    Args:
      folder: where `jax.profiler.trace` wrote.
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


def summed(found: Iterator[tuple[str, float]], updates: int) -> list[Kernel]:
    """Returns what was found, by name, what took longest first."""
    spent: dict[str, list[float]] = defaultdict(list)
    for name, nanoseconds in found:
        spent[name].append(nanoseconds)
    every = sum(map(sum, spent.values()))
    made = [
        Kernel(name, sum(took) / updates / 1e6, sum(took) / every, len(took) / updates)
        for name, took in spent.items()
    ]
    return sorted(made, key=lambda kernel: -kernel.milliseconds)


def kernels(values: argparse.Namespace) -> list[Kernel]:
    """Returns what the device does in an update.

    Raises:
      UserError: no such config, or the device left no trace.
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
        found = summed(events(Path(folder)), UPDATES)
    if not found:
        raise UserError("the profiler saw nothing of the device")
    return found


def main(words: list[str]) -> int:
    """Runs a command line and returns its exit code."""

    def obey(words: list[str]) -> None:
        values = parse(words)
        found = kernels(values)
        print(f"{sum(k.milliseconds for k in found):.1f} ms an update, {len(found)} kernels")
        for k in found[: values.top]:
            print(f"{k.milliseconds:8.2f} ms {k.share:6.1%} {k.times:7.1f} x  {k.name}")

    return app.run(obey, words, __doc__, "choose a smaller batch")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
