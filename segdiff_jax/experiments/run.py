"""Runs the paper's experiments on one config: trains and measures every cell of its grids.

  python -m segdiff_jax.experiments.run --config=configs/monuseg.py:small --dir=DIR

  --config=FILE[:ARGUMENT]   the config of all cells, as for segdiff_jax.main
  --config.GROUP.KEY=VALUE   sets one of its fields
  --dir=DIR                  for all output: DIR/runs, DIR/answers. The same command continues where
                             it stopped, and several processes, on one or on several machines, may
                             share DIR: each cell is done by one of them
  --grid=NAME,NAME           some of
                               conditioning  the method and variants one to six of Table 4
                               baselines     the deterministic twin, and a plain U-Net
                               steps         diffusion steps T, one training for each (Fig. 9a)
                               blocks        RRDB blocks (Fig. 8)
                               images        training images (Fig. 3)
                               generations   score and calibration of 1, 2, ... (Fig. 5, 6)
                               reverse       score after each reverse step (Fig. 4)
                               seconds       seconds per image for each T (Fig. 9b)
                               differences   where paper and code disagree
                             or all of these, which is the default; and
                               recipe        what the map and the samples are worth, by the settings
                                             of training; three seeds of each of --variants
                               certainty     how sure it is and whether that holds, of the same runs
  --T=25,50,...  --blocks=1,3,...  --images=4,8,...  --generations=30
                             the values of these grids; --images: 0 is all
  --seeds=0,1,2  --variants=NAME,NAME  --twin_steps=N
                             of these two; the variants are in segdiff_jax/experiments/recipe.py. An
                             update of the twin has one pass of the U-Net, of the others two:
                             --twin_steps gives it as many passes as the others, and those that
                             begin at T alone (logit-T-first) as many as it
  --list                     prints each cell, its overrides and its state; runs nothing
  --retry                    runs failed cells again
  --help                     this text

`python -m segdiff_jax.experiments.report --dir=DIR` makes tables and figures of what is done.

Exit codes: those of segdiff_jax.main; cells that fail do not stop the others, and the code at the
end is that of the first of them.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from segdiff_jax import errors
from segdiff_jax.cli import app
from segdiff_jax.config import validate
from segdiff_jax.errors import UserError
from segdiff_jax.experiments.args import Command, describe, parse
from segdiff_jax.experiments.grids import Cell, CellPaths, cell_config, cell_paths
from segdiff_jax.experiments.results import (
    FAILED,
    RESULT,
    TRAINED,
    CellState,
    cell_state,
    read_json,
    write_stamped,
)
from segdiff_jax.runtime import files, own_files, watchdog
from segdiff_jax.runtime.lock import InUseError, locked

LESS_MEMORY = "lower train.batch_size or sampling.rows_at_once, and --retry"
POLL_SECONDS = 5.0  # while other processes work on all cells that are left


def main(argv: list[str]) -> int:
    """Runs the arguments after the name of the program and returns the exit code."""
    return app.run(_main, argv, __doc__, LESS_MEMORY)


def _main(argv: list[str]) -> None:
    command = parse(argv)
    if command.only_list:
        print("\n".join(listed(command)))
        return
    app.set_up_logging()
    own_files.check_whole(command.directory)
    describe(command)
    from segdiff_jax.runtime import cpu_devices, distributed  # jax takes seconds to import

    batches = [cell_config(command.config, cell).train.batch_size for cell in command.cells]
    devices = cpu_devices.choose_device_count(math.gcd(*batches), command.config.job.cpu_devices)
    distributed.start(devices_of_cpu=devices)
    run(command)


def listed(command: Command) -> list[str]:
    """Returns a line for each cell: its name, state and overrides."""
    width, lines = max(len(cell.title) for cell in command.cells), []
    for cell in command.cells:
        over = " ".join(f"{key}={value}" for key, value in cell.overrides.items())
        state = _state(command, cell).message
        lines.append(f"{cell.title:{width}}  {state}  [{over or 'the config as it is'}]")
    return lines


def run(command: Command) -> None:
    """Does all cells that are not done, and waits for those that other processes work on.

    Raises:
      UserError: cells failed; its details are a line for each.
    """
    for cell in command.cells:
        _describe_cell(command, cell)
        if command.retry:
            for directory in _located(command, cell)[1]:
                (directory / FAILED).unlink(missing_ok=True)
    while left := [c for c in command.cells if _state(command, c).name in ("open", "running")]:
        tried = [_attempt(command, cell) for cell in left]
        if not any(tried):
            logging.info("waiting for %s: %s", left[0].title, _state(command, left[0]).message)
            time.sleep(POLL_SECONDS)
    failed = [(c, s) for c in command.cells if (s := _state(command, c)).name == "failed"]
    if failed:
        details = [f"{cell.title}: {state.message}" for cell, state in failed]
        message = f"{len(failed)} of {len(command.cells)} cells failed; --retry runs them again"
        raise UserError(message, _exit_code(command, failed[0][0]), details)
    logging.info("%s: all %d cells are done", command.directory, len(command.cells))


def _located(command: Command, cell: Cell) -> tuple[ConfigDict, CellPaths]:
    config = cell_config(command.config, cell)
    return config, cell_paths(command.directory, config, cell.measure)


def _state(command: Command, cell: Cell) -> CellState:
    return cell_state(_located(command, cell)[1])


def _describe_cell(command: Command, cell: Cell) -> None:
    """Writes the directories of a cell to a file, where a report finds them before it is done."""
    paths = _located(command, cell)[1]
    run, answer = (path.relative_to(command.directory) for path in paths)
    write_stamped(
        command.directory / "cells" / cell.grid / f"{cell.name}.json",
        {**cell._asdict(), "run": run, "answer": answer},
    )


def _attempt(command: Command, cell: Cell) -> bool:
    """Trains and measures a cell; returns False if another process works on it."""
    config, paths = _located(command, cell)
    try:
        validate.check(config)
    except UserError as error:
        _write_failure(paths.measurement, cell, error)
        return True
    import jax

    from segdiff_jax.experiments import measurements

    def train() -> dict[str, Any]:
        logging.info("%s: training in %s", cell.title, paths.run)
        with watchdog.watch(config.job.hang_seconds):
            return measurements.trained(config, paths.run)

    def measure() -> dict[str, Any]:
        logging.info("%s: measuring %s in %s", cell.title, cell.measure, paths.measurement)
        with watchdog.watch(config.job.hang_seconds):
            content = measurements.MEASURES[cell.measure](config, paths.run, paths.measurement)
        return {**content, "training": read_json(paths.run / TRAINED)}

    try:
        _do_once(cell, paths.run, paths.run_lock, TRAINED, train)
        if not (paths.run / FAILED).exists():
            _do_once(cell, paths.measurement, paths.measurement_lock, RESULT, measure)
    except InUseError:
        return False
    jax.clear_caches()  # no two cells share a compiled program
    return True


def _do_once(
    cell: Cell, directory: Path, lock: Path, name: str, work: Callable[[], dict[str, Any]]
) -> None:
    """Writes what `work` returns to a file, unless another process did, or writes its failure.

    It raises InUseError if another process does this work, and what keeps the disk from being
    written.
    """
    if (directory / name).exists():
        return
    with locked(lock):
        if any((directory / ended).exists() for ended in (name, FAILED)):
            return  # by another process, before this one had the lock
        try:
            content = work()
        except InUseError:
            raise
        except Exception as error:
            _write_failure(directory, cell, error)
        else:
            write_stamped(directory / name, content)


def _write_failure(directory: Path, cell: Cell, error: Exception) -> None:
    """Writes a failure, since other cells are run; raises it if the disk cannot be written."""
    if isinstance(error, UserError):
        message, code = str(error), error.code
    elif files.reason(error):
        raise error
    else:
        logging.exception("internal error")
        message, code = f"{type(error).__name__}: {str(error)[:300]}", errors.INTERNAL
    if code == errors.CANNOT_WRITE:
        raise error
    line = " ".join(message.split())
    logging.error("%s failed: %s", cell.title, line)
    write_stamped(directory / FAILED, {"line": line, "code": code, "cell": cell.title})


def _exit_code(command: Command, cell: Cell) -> int:
    failures = (read_json(directory / FAILED) for directory in _located(command, cell)[1])
    return next((failure["code"] for failure in failures if failure), errors.INTERNAL)


if __name__ == "__main__":
    app.start(main)
