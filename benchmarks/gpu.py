"""Measures one machine with a GPU: speed, a score by minutes of training, pictures a second.

  python -m benchmarks.gpu --out=DIR --data=DIR [--authors=PATH]

  --out=DIR        results.jsonl, a line for each measurement as soon as it is there; the same
                   command again goes on with what is missing
  --data=DIR       official files of MoNuSeg; without it
  --prepared=DIR   has to hold the prepared set, as data.prepared_dir of a config
  --authors=PATH   a checkout of github.com/tomeramit/SegDiff, which speed times in the same run;
                   needs PyTorch
  --only=NAMES     parts, with commas, in this order: training, the network of --config, scored
                   while it learns and at the end by every budget; twin, its network of one pass,
                   for as long; throughput, pictures a second of --model, and one large picture;
                   speed, python -m benchmarks.run --only=monuseg
  --seconds=N      for all parts; default 840. A part without time is left out or ends early, and
                   a line says so
  --minutes=N      of training, of the network and of its twin each; default 10
  --config=NAME    default monuseg:gpu
  --updates=N      of it; as in the config if not given
  --model=NAME     default nuclei
  --side=N         of pictures, pixels; default 512
  --large=N        of the large picture; default 10000; 0: none
  --repeats=N      of speed and throughput; default 5
  --check          prints the devices and what is not installed, and ends
  --help           this text

Every part has a process of its own, whose memory is free after it. The machine needs what
requirements.lock names and JAX for its GPU; not TensorFlow. docs/performance.md tells how to bring
packages and data to a machine without a network.
"""

import argparse
import importlib.metadata
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, with_devices
from benchmarks.results_file import ResultsFile

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("training", "twin", "throughput", "speed")
LEAST = {"training": 150, "twin": 150, "throughput": 60, "speed": 180}  # seconds that it needs
RESERVE = 60.0  # seconds of a part's time for its last scores


def missing() -> list[str]:
    """Returns what the package needs, and needs in turn, and this Python does not have.

    Versions may be others than those of requirements.lock.
    """
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = [line.rstrip(" \\") for line in lines if re.match(r"[\w.-]+==", line)]
    return sorted({name for name in map(_wanted, locked) if name and not _has(name)})


def _wanted(line: str) -> str:
    """Returns the package of a line of the lock; "" if it is for other systems or Pythons."""
    name, _, marker = line.partition(" ; ")
    name = name.partition("==")[0]
    if not marker:
        return name
    try:
        from packaging.markers import Marker
    except ImportError:
        return ""  # packaging is in the lock, too
    return name if Marker(marker).evaluate() else ""


def _has(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads a command line.

    Raises:
      UserError: an option is misspelt, has a wrong value, or is missing.
    """
    from benchmarks import options
    from segdiff_jax.errors import UserError

    parser = options.parser()
    for name in ("out", "data", "prepared", "authors"):
        parser.add_argument(f"--{name}", type=Path)
    names = {"only": ",".join(PARTS), "config": "monuseg:gpu", "model": "nuclei"}
    for name, default in names.items():
        parser.add_argument(f"--{name}", default=default)
    numbers = {"seconds": 840, "updates": 0, "side": 512, "large": 10000, "repeats": 5}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--check", action="store_true")
    # that this process measures
    parser.add_argument("--part", default="", choices=("", *PARTS[:3]))
    values = options.read(parser, arguments)
    chosen = [name for name in values.only.split(",") if name]
    if wrong := [name for name in chosen if name not in PARTS]:
        raise UserError(f"--only={values.only}: {wrong[0]!r} is not one of {', '.join(PARTS)}")
    values.parts = [name for name in PARTS if name in chosen]
    for name in ("seconds", "side", "repeats", "minutes"):
        if getattr(values, name) <= 0:
            raise UserError(f"--{name}={getattr(values, name)}: must be above 0")
    for name in ("updates", "large"):
        if getattr(values, name) < 0:
            raise UserError(f"--{name}={getattr(values, name)}: must be at least 0")
    learns = {"training", "twin"} & set(values.parts) and not values.check
    if learns and not (values.data or values.prepared):
        raise UserError("--data=DIR or --prepared=DIR must name MoNuSeg, or --only other parts")
    if not values.check and not values.out:
        raise UserError("--out is missing: --out=DIR")
    return values


def measure(values: argparse.Namespace) -> None:
    """Runs the parts that are not done, each in a process of its own.

    Raises:
      UserError: all parts failed or were left out.
    """
    from segdiff_jax.errors import INTERNAL, UserError

    values.out.mkdir(parents=True, exist_ok=True)
    results, end = ResultsFile(values.out / "results.jsonl"), time.monotonic() + values.seconds
    results.add("machine", "is", **machine())
    good = 0
    for part in values.parts:
        if results.last(part, "done"):
            print(f"{part}: done before", flush=True)
            good += 1
            continue
        left = end - time.monotonic()
        if left < min(LEAST[part], values.seconds / 2):
            results.add(part, "left out", seconds_left=round(left))
            continue
        began = time.monotonic()
        code = _run(_command(part, values, left), left)
        what = "done" if code == 0 else "ended early" if code is None else "failed"
        more = _of_speed(values.out) if part == "speed" else {}
        took = round(time.monotonic() - began, 1)
        results.add(part, what, seconds=took, exit_code=code, **more)
        good += what == "done"
    if not good:
        raise UserError(f"no part was measured: see {results.path}", INTERNAL)


def _command(part: str, values: argparse.Namespace, left: float) -> list[str]:
    """Returns the command line of the process of a part that may take `left` seconds.

    Its own limit is lower, so that what it has trained is still scored.
    """
    if part == "speed":
        more = [f"--repeats={values.repeats}", f"--out={values.out.absolute() / 'speed.json'}"]
        more += [f"--authors={values.authors.absolute()}"] if values.authors else []
        return [sys.executable, "-m", "benchmarks.run", "--only=monuseg", *more]
    names = ("config", "updates", "minutes", "model", "side", "large", "repeats")
    words = [f"--{name}={getattr(values, name)}" for name in names]
    paths = {name: getattr(values, name) for name in ("data", "prepared", "out")}
    words += [f"--{name}={path.absolute()}" for name, path in paths.items() if path]
    seconds = max(int(left - RESERVE), int(left / 2), 1)
    words += [f"--part={part}", f"--only={part}", f"--seconds={seconds}"]
    return [sys.executable, "-m", "benchmarks.gpu", *words]


def _run(command: Sequence[str], seconds: float) -> int | None:
    """Runs a command; returns its exit code, None if it was ended after so many seconds."""
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            return None
        except BaseException:
            process.kill()
            raise


def _of_speed(out: Path) -> dict[str, Any]:
    """Returns the table of benchmarks.run, as far as it was written."""
    path = out / "speed.json"
    return {"table": json.loads(path.read_text())} if path.exists() else {}


def part(values: argparse.Namespace) -> None:
    """Measures a part in this process."""
    from benchmarks import learning, throughput

    results = ResultsFile(values.out / "results.jsonl")
    if values.part == "throughput":
        throughput.measure(values.model, values.side, values.large, values.repeats, results)
        return
    trained = results.last("training", "weights")
    minutes = values.minutes
    if values.part == "twin" and trained:  # for as long as the network was trained
        minutes = trained["minutes"]
    config = learning.config_of(values.config, values.part, values.updates)
    config.data.dir = str(values.data.absolute()) if values.data else ""
    if values.prepared:
        config.data.prepared_dir = str(values.prepared.absolute())
    limit = learning.Limit(60 * minutes, time.monotonic() + values.seconds)
    learning.learn(config, values.out / values.part, limit, values.part, results)


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code."""
    if not {"--help", "-h"} & set(arguments) and (names := missing()):
        install = "pip install -r requirements.lock; without a network see docs/performance.md"
        print(f"not installed: {', '.join(names)}: {install}", file=sys.stderr)
        return 64
    from segdiff_jax.cli import app

    def run(arguments: list[str]) -> None:
        values = parse(arguments)
        if values.check:
            print(json.dumps(with_devices()))
        elif values.part:
            part(values)
        else:
            measure(values)

    return app.run(run, arguments, __doc__, "choose a config with a smaller batch")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
