"""Runs SegDiff: prepares or checks a data set, trains, evaluates (see `cli.main_args`).

    python -m segdiff_jax.main --config=configs/synthetic.py
    segdiff train --config=configs/synthetic.py

jax is imported only once the command line is known to be correct: that takes seconds.
"""

import gc
from functools import partial

from absl import logging

from segdiff_jax import __version__, errors
from segdiff_jax.cli import app, main_args
from segdiff_jax.cli.main_args import Command
from segdiff_jax.config import flatten, validate
from segdiff_jax.errors import UserError
from segdiff_jax.runtime import watchdog

LESS_MEMORY = (
    "lower sampling.rows_at_once if training was over or an image was predicted; else raise "
    "train.accumulate, or set train.draws_at_once to 1, model.remat to all, model.dtype to "
    "bfloat16, augment.crop to less, or job.cpu_devices to 1 on a CPU"
)


def main(argv: list[str], mode: str = "") -> int:
    """Runs a command line and returns its exit code.

    Args:
      argv: arguments without the name of the program.
      mode: of the sub-command; "": --mode gives it.
    """
    program = partial(run_command, mode=mode)
    try:
        return app.run(program, argv, main_args.help_of(mode), LESS_MEMORY)
    finally:
        gc.enable()


def run_command(argv: list[str], mode: str = "") -> None:
    """Parses a command line and runs it."""
    command = main_args.parse(argv, mode)
    app.set_up_logging()
    for line in validate.warnings_for(command.config):
        logging.warning(line)
    run_mode(command)


def run_mode(command: Command) -> None:
    """Prepares, checks, trains or evaluates, as the mode of the command asks for."""
    config, mode = command.config, command.mode
    if mode == "check":
        return check(command)
    if mode != "prepare":
        logging.info("work directory: %s", command.workdir)
    if mode in ("prepare", "all"):
        from segdiff_jax.factory import datasets

        counts = datasets.source(config).prepare()
        logging.info("%s: %s", config.data.name, ", ".join(f"{n} {s}" for s, n in counts.items()))
    if mode == "prepare":
        return
    gc.disable()  # until the first training step: what is imported and traced stays
    from segdiff_jax.runtime import distributed

    job = config.job
    peers = command.coordinator, command.processes, command.process
    distributed.start(*peers, job.join_seconds, job.heartbeat_seconds, devices_of_cpu(command))
    distributed.check_platform(command.device)
    with watchdog.watch(job.hang_seconds, coordinator=distributed.leads_others()):
        train_and_evaluate(command)


def devices_of_cpu(command: Command) -> int:
    """Returns how many JAX devices this process makes of its CPU."""
    from segdiff_jax.runtime import cpu_devices

    wanted = command.config.job.cpu_devices
    if command.coordinator:
        return wanted or 1
    batch_size = 0 if command.mode == "evaluate" else command.config.train.batch_size
    return cpu_devices.choose_device_count(batch_size, wanted)


def train_and_evaluate(command: Command) -> None:
    """Trains, evaluates or both, as the mode asks for."""
    from segdiff_jax import evaluate, train
    from segdiff_jax.runtime import consistency, signals

    config, workdir, mode = command.config, command.workdir, command.mode
    facts = consistency.run_facts(__version__, flatten(config), workdir, mode, command.processes)
    consistency.check(facts)
    if mode in ("train", "all"):
        train.train(config, workdir)
    if not config.data.test_split and mode == "all":
        logging.info("config.data.test_split is empty: nothing is scored")
    elif mode in ("evaluate", "all"):
        gc.enable()
        with signals.raise_on_signal():
            evaluate.evaluate(config, workdir)


def check(command: Command) -> None:
    """Reads every file of the data set, prints what it is made of, and draws some of it.

    Raises:
      UserError: files cannot be used; its details have a line for each.
    """
    from segdiff_jax.data.image_io import writing
    from segdiff_jax.factory import datasets
    from segdiff_jax.prediction import overlay

    config = command.config
    found = datasets.source(config).inspect(config.augment.crop)
    for line in found.lines:
        print(f"{config.data.name}: {line}")
    if found.pictures:
        path = command.workdir / "check.png"
        try:
            writing.save(path, overlay.grid(found.pictures))
            print(f"{config.data.name}: {path} shows {len(found.pictures)} examples and masks")
        except UserError as error:
            print(f"{config.data.name}: no picture of the examples: {error}")
    if found.problems:
        many = "problem" if len(found.problems) == 1 else "problems"
        message = f"{config.data.dir}: {len(found.problems)} {many}, listed above"
        raise UserError(message, errors.BAD_DATA, found.problems)
    print(f"{config.data.name}: every file can be used; ready to train")


if __name__ == "__main__":
    app.start(main)
