"""Measures the speed and memory of segdiff_jax, and of the authors' code where it is available.

  python -m benchmarks.run
  python -m benchmarks.run --only=training,sampling --repeats=7 --out=FILE.json --authors=PATH

  --only=NAMES     parts, with commas: training, input, sampling, guards, startup, memory, shapes,
                   tile; and monuseg, which runs only if named: training and sampling of its
                   configuration, for a GPU of 140 GB
  --full           tile as well: the authors' MoNuSeg network on one tile, minutes on a CPU
  --dtype=NAME     of our activations in monuseg: bfloat16, the default, or float32
  --repeats=N      measurements of each workload after its warm-up, in turns; default 7
  --out=FILE.json  writes every repeat
  --authors=PATH   a checkout of github.com/tomeramit/SegDiff, which is timed in the same run; needs
                   PyTorch
  --help           this text

docs/performance.md describes the parts and how to read the table.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks import options
from benchmarks.machine import with_devices
from segdiff_jax.cli import app
from segdiff_jax.errors import UserError
from segdiff_jax.runtime import startup

PARTS = ("training", "input", "sampling", "guards", "startup", "memory", "shapes", "tile")
DTYPES = ("float32", "bfloat16")
LARGE = ("monuseg",)  # only if named
SLOW = ("tile",)  # only if named, or with --full


class Request(NamedTuple):
    """The options of a command line.

    Attributes:
      parts: of PARTS, in that order.
      repeats: at least 1.
      out: the JSON file to write, if any.
      authors: checkout of their repository; None: ours alone.
      dtype: of our activations in the largest part.
    """

    parts: tuple[str, ...]
    repeats: int
    out: Path | None
    authors: Path | None
    dtype: str


def parse(arguments: list[str]) -> Request:
    """Reads a command line.

    Raises:
      UserError: an option is misspelt or has a wrong value.
    """
    parser = options.parser()
    parser.add_argument("--only", default="")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--authors", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    values = options.read(parser, arguments)
    if values.repeats < 1:
        raise UserError(f"--repeats={values.repeats}: must be at least 1")
    if values.out and not values.out.absolute().parent.is_dir():
        raise UserError(f"--out={values.out}: its folder does not exist")
    authors = values.authors.absolute() if values.authors else None
    parts = _parts(values.only, values.full)
    return Request(parts, values.repeats, values.out, authors, values.dtype)


def _parts(only: str, full: bool) -> tuple[str, ...]:
    """Returns the parts that --only and --full select, in the order of PARTS."""
    named = [name for name in only.split(",") if name]
    for name in named:
        if name not in (*PARTS, *LARGE):
            raise UserError(f"--only={only}: {name!r} is not one of {', '.join((*PARTS, *LARGE))}")
    usual = [name for name in PARTS if full or name not in SLOW]
    return tuple(name for name in (*PARTS, *LARGE) if name in (named or usual))


def measure(request: Request) -> None:
    """Measures the parts of a request and prints each when it is done.

    Raises:
      UserError: the authors' code cannot be timed, or the file cannot be written.
    """
    from benchmarks import (
        authors,
        full,
        guards,
        measured,
        ours,
        peak,
        reduced,
        shapes,
        startup,
        table,
    )
    from benchmarks.timing import Row, load
    from configs import monuseg
    from segdiff_jax.factory import datasets

    if request.authors:
        authors.check(request.authors)
    if LARGE[0] in request.parts:  # theirs needs the GPU's memory, too
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    config = reduced.get_config()
    ours.start(config)
    plan = measured.Plan(config, request.repeats, request.authors, request.dtype)
    if {"input", "startup"} & set(request.parts):
        datasets.source(config).prepare()
    parts: dict[str, Callable[[], list[Row]]] = {
        "training": lambda: measured.training(plan),
        "input": lambda: measured.data(plan),
        "sampling": lambda: measured.sampling(plan),
        "guards": lambda: guards.rows(plan),
        "startup": lambda: startup.rows(request.repeats),
        "memory": lambda: peak.rows(request.authors),
        "shapes": shapes.rows,
        "tile": lambda: measured.full_tile(plan),
        "monuseg": lambda: full.rows(plan, monuseg.get_config(), 512),
    }
    about, sections = with_devices(), []
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    for name in request.parts:
        before = load()
        rows = parts[name]()
        sections.append(table.Section(name, rows, before, load()))
        print(f"\n{table.text(sections[-1])}", flush=True)
        if request.out:  # after every part: an interruption loses one at most
            table.write(request.out, about, sections)


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code."""
    return app.run(lambda given: measure(parse(given)), arguments, __doc__, "choose fewer parts")


if __name__ == "__main__":
    startup.reexec_with_huge_pages()  # as the programs of the package do
    sys.exit(main(sys.argv[1:]))
