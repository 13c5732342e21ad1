"""Runs the paper's experiments on one config: trains and measures every cell of its grids.

  python -m segdiff_jax.experiments.run --config=configs/monuseg.py:small --dir=DIR

  --config=FILE[:ARGUMENT]   what all cells share, as for segdiff_jax.main
  --config.GROUP.KEY=VALUE   sets one of its knobs
  --dir=DIR                  all that is made: DIR/runs, DIR/answers. The same command goes on where
                             it stopped, and may run on several machines that share DIR: a cell is
                             done by one of them, and never twice
  --grid=NAME,NAME           some of
                               conditioning  the method and variants one to six of Table 4
                               baselines     the deterministic twin, and a plain U-Net
                               steps         diffusion steps T, each trained anew (Fig. 9a)
                               blocks        RRDB blocks (Fig. 8)
                               images        training images (Fig. 3)
                               generations   score and calibration of 1, 2, ... (Fig. 5, 6)
                               reverse       score after each reverse step (Fig. 4)
                               seconds       seconds per image for each T (Fig. 9b)
                               differences   where paper and code disagree
                             or, if not given, all of them
  --T=25,50,...  --blocks=1,3,...  --images=4,8,...  --generations=30
                             what these go through; --images: 0 is all
  --list                     each cell, what is set for it, and whether it is done; runs nothing
  --retry                    runs again what failed
  --help                     this text

`python -m segdiff_jax.experiments.report --dir=DIR` makes tables and figures of what is done.

Exit codes: those of segdiff_jax.main; cells that fail do not stop the others, and the code at the
end is that of the first of them.
"""

import math
import os
import sys
import time
from pathlib import Path

from absl import logging
from ml_collections import ConfigDict

from segdiff_jax import errors
from segdiff_jax.cli import app
from segdiff_jax.config import validate
from segdiff_jax.errors import UserError
from segdiff_jax.experiments.args import Command, describe, parse
from segdiff_jax.experiments.claims import claim
from segdiff_jax.experiments.grids import Cell, Places, configured, places
from segdiff_jax.experiments.results import FAILED, RESULT, TRAINED, Found, look, read, write_json
from segdiff_jax.runtime import files, watchdog

LESS_MEMORY = "lower train.batch_size or sampling.rows_at_once, and --retry"


POLL = 5.0  # seconds between looks at what other processes work on


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code; mistakes of the user's take one line.

    Args:
      arguments: the words after the name of the programme.
    """
    return app.run(_main, arguments, __doc__, LESS_MEMORY)


def _main(arguments: list[str]) -> None:
    command = parse(arguments)
    if command.only_list:
        print("\n".join(listed(command)))
        return
    app.set_up_logging()
    describe(command)
    from segdiff_jax.runtime import (
        cpu_devices,
        distributed,  # jax takes seconds to import
    )

    batches = [configured(command.config, cell).train.batch_size for cell in command.cells]
    fitting = cpu_devices.choose_device_count(math.gcd(*batches), command.config.job.cpu_devices)
    distributed.start(devices_of_cpu=fitting)
    run(command)


def listed(command: Command) -> list[str]:
    """Returns a line for each cell: its name, what is set for it, its state."""
    width = max(len(cell.title) for cell in command.cells)
    lines = []
    for cell in command.cells:
        over = " ".join(f"{key}={value}" for key, value in cell.overrides.items())
        state = found(command, cell).line
        lines.append(f"{cell.title:{width}}  {state}  [{over or 'the config as it is'}]")
    return lines


def run(command: Command) -> None:
    """Does all cells that are not done, or waits for those who do.

    Raises:
      UserError: cells failed; its details are a line for each.
    """
    for cell in command.cells:
        note(command, cell)
        if command.retry:
            for place in located(command, cell)[1]:
                (place / FAILED).unlink(missing_ok=True)
    while left := [c for c in command.cells if found(command, c).state in ("open", "running")]:
        tried = [attempt(command, cell) for cell in left]
        if not any(tried):
            logging.info("waiting for %s", found(command, left[0]).line)
            time.sleep(POLL)
    failed = [(c, f) for c in command.cells if (f := found(command, c)).state == "failed"]
    if failed:
        details = [f"{cell.title}: {state.line}" for cell, state in failed]
        message = f"{len(failed)} of {len(command.cells)} cells failed; --retry runs them again"
        raise UserError(message, _code(command, failed[0][0]), details)
    logging.info("%s: all %d cells are done", command.directory, len(command.cells))


def located(command: Command, cell: Cell) -> tuple[ConfigDict, Places]:
    """Returns the config of a cell, and where it is kept."""
    config = configured(command.config, cell)
    return config, places(command.directory, config, cell.measure)


def found(command: Command, cell: Cell) -> Found:
    """Returns the state of a cell."""
    return look(*located(command, cell)[1])


def note(command: Command, cell: Cell) -> None:
    """Writes where a cell is kept, so that a report finds it, done or not."""
    _, kept = located(command, cell)
    write_json(
        command.directory / "cells" / cell.grid / f"{cell.name}.json",
        {
            **cell._asdict(),
            "run": str(kept.run.relative_to(command.directory)),
            "answer": str(kept.answer.relative_to(command.directory)),
        },
    )


def attempt(command: Command, cell: Cell) -> bool:
    """Trains and measures a cell unless another process is at it; returns whether it did.

    What goes wrong is written down, for the other cells are to go on; but a disk that cannot be
    written stops all.
    """
    config, kept = located(command, cell)
    place = kept.answer
    try:
        validate.check(config)
        place = kept.run
        if not (kept.run / TRAINED).exists():
            with claim(kept.run, _lost) as mine:
                if not mine:
                    return False
                train(config, kept.run, cell)
        if (kept.run / FAILED).exists():
            return True
        place = kept.answer
        with claim(kept.answer, _lost) as mine:
            if not mine:
                return False
            if not (kept.answer / RESULT).exists():
                measure(config, kept, cell)
    except Exception as error:
        line, code = _told(error)
        if code == errors.CANNOT_WRITE:
            raise
        logging.error("%s failed: %s", cell.title, line)
        write_json(place / FAILED, {"line": line, "code": code, "cell": cell.title})
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()  # no two cells share a program in memory
    return True


def train(config: ConfigDict, run: Path, cell: Cell) -> None:
    """Trains, or goes on where a run stopped, and seals it."""
    if (run / TRAINED).exists() or (run / FAILED).exists():
        return  # by another, between the look and the claim
    from segdiff_jax.experiments import measurements

    logging.info("%s: training in %s", cell.title, run)
    with watchdog.watch(config.job.hang_seconds):
        content = measurements.trained(config, run)
    write_json(run / TRAINED, content)


def measure(config: ConfigDict, kept: Places, cell: Cell) -> None:
    """Measures what a run learned, and seals it."""
    from segdiff_jax.experiments import measurements

    logging.info("%s: measuring %s in %s", cell.title, cell.measure, kept.answer)
    with watchdog.watch(config.job.hang_seconds):
        content = measurements.MEASURES[cell.measure](config, kept.run, kept.answer)
    write_json(kept.answer / RESULT, {**content, "training": read(kept.run / TRAINED)})


def _told(error: Exception) -> tuple[str, int]:
    """Returns what went wrong in one line, and its exit code."""
    if isinstance(error, UserError):
        return " ".join(str(error).split()), error.code
    if why := files.reason(error):
        return f"cannot be written: {why}", errors.CANNOT_WRITE
    logging.exception("not an error of the user's")
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", errors.INTERNAL


def _code(command: Command, cell: Cell) -> int:
    failures = (read(place / FAILED) for place in located(command, cell)[1])
    return next((failure["code"] for failure in failures if failure), errors.INTERNAL)


def _lost() -> None:
    """Ends the process at once: another works in its place, whose files must stay its own."""
    app.fail("this process slept so long that another took its cell over", errors.INTERNAL)
    os._exit(errors.INTERNAL)


if __name__ == "__main__":
    app.start(main)
