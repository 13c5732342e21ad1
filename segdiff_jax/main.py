"""SegDiff: trains a diffusion model that segments images, and scores it.

  python -m segdiff_jax.main --config=configs/synthetic.py
  python -m segdiff_jax.main --config=configs/monuseg.py:small --config.data.dir=DIR

  --config=FILE[:ARGUMENT]   a Python file with get_config; what follows the colon is handed to it:
                             configs/monuseg.py is the authors' network, with :small one for a CPU
  --config.GROUP.KEY=VALUE   sets one of the knobs that segdiff_jax/config.py explains, such as
                             --config.train.steps=10 or --config.model.multipliers=1,2,2
  --workdir=DIR              checkpoints, metrics, report; runs/FILE[-ARGUMENT] if not given;
                             the same command again goes on where the run stopped
  --mode=MODE                prepare (the data set) | train | evaluate (the last weights, and write
                             the report) | all: one after the other, the default;
                             check: reads every file of the data set and lists what is wrong
  --coordinator=HOST:PORT --processes=N --process=I
                             a job of several processes; --coordinator=auto where JAX knows the rest
                             (if one does not join within config.job.join_seconds, the others end)
  --help                     this text

On Linux the program restarts itself at its start, for huge pages; not with the environment variable
GLIBC_TUNABLES=glibc.malloc.hugetlb=0.

Exit codes: 0 done; 64 bad command line or config; 65 bad data; 66 bad checkpoint; 70 not a finite
number, or a bug; 74 cannot write; 130 and 143 interrupted and terminated, the state is saved;
134 lost another process of the job; 142 hung.
"""

import gc
import sys

from absl import logging
from ml_collections import ConfigDict

from segdiff_jax import __version__, errors
from segdiff_jax.cli import app, main_args
from segdiff_jax.cli.main_args import Command
from segdiff_jax.config import validate
from segdiff_jax.config.defaults import flatten
from segdiff_jax.errors import UserError
from segdiff_jax.runtime import startup, watchdog

LESS_MEMORY = (
    "lower train.batch_size, or sampling.rows_at_once if training was over, or set "
    "train.draws_at_once to 1, model.dtype to bfloat16, or job.cpu_devices to 1 on a CPU"
)


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code; mistakes of the user's take one line.

    Args:
      arguments: the words after the name of the programme.
    """
    try:
        return app.run(run_command, arguments, __doc__, LESS_MEMORY)
    finally:
        gc.enable()


def run_command(arguments: list[str]) -> None:
    """Does what a command line says."""
    command = main_args.parse(arguments)
    app.set_up_logging()
    for line in validate.warnings_for(command.config):
        logging.warning(line)
    run_mode(command)


def run_mode(command: Command) -> None:
    """Does what was asked for. The imports are here because jax takes seconds to import."""
    config, mode = command.config, command.mode
    if mode == "check":
        return check(config)
    if mode in ("prepare", "all"):
        from segdiff_jax.factory import datasets

        counts = datasets.source(config).prepare()
        logging.info("%s: %s", config.data.name, ", ".join(f"{n} {s}" for s, n in counts.items()))
    if mode == "prepare":
        return
    gc.disable()  # until the first training step: what is imported and traced stays
    from segdiff_jax.runtime import distributed

    job = config.job
    place = command.coordinator, command.processes, command.process
    distributed.start(*place, job.join_seconds, job.heartbeat_seconds, devices_of_cpu(command))
    with watchdog.watch(job.hang_seconds, coordinator=distributed.leads_others()):
        train_and_evaluate(command)


def devices_of_cpu(command: Command) -> int:
    """Returns how many devices this process makes of its CPU."""
    from segdiff_jax.runtime import cpu_devices

    wanted = command.config.job.cpu_devices
    if command.coordinator:
        return wanted or 1
    batch_size = 0 if command.mode == "evaluate" else command.config.train.batch_size
    return cpu_devices.choose_device_count(batch_size, wanted)


def train_and_evaluate(command: Command) -> None:
    """Trains and scores, as far as the mode asks for it."""
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
            evaluate.evaluate_run(config, workdir)


def check(config: ConfigDict) -> None:
    """Reads every file of the data set.

    Raises:
      UserError: files cannot be used; its details are a line for each.
    """
    from segdiff_jax.factory import datasets

    if problems := datasets.source(config).problems():
        raise UserError(
            f"{config.data.dir}: {len(problems)} problems, listed above", errors.BAD_DATA, problems
        )
    print(f"{config.data.name}: every file can be used")


def run() -> None:
    """The console script."""
    startup.reexec_with_huge_pages()
    app.exit_program(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
