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
                             the report) | all: one after the other, the default
  --coordinator=HOST:PORT --processes=N --process=I
                             a job of several processes; --coordinator=auto where JAX knows the rest
  --help                     this text

Exit codes: 0 done; 64 bad command line or config; 65 bad data; 66 bad checkpoint; 70 not a finite
number, or a bug; 74 cannot write; 130 and 143 interrupted and terminated, the state is saved.
"""

import errno
import logging as python_logging
import sys
import traceback

from absl import flags, logging

from segdiff_jax import command_line, errors, validate
from segdiff_jax.command_line import Command
from segdiff_jax.errors import UserError

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code; mistakes of the user's take one line.

    Args:
      arguments: the words after the name of the programme.
    """
    assert __doc__
    if {"--help", "-help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__.strip())
        return errors.DONE
    try:
        command = command_line.parse(arguments)
        set_up_logging()
        for line in validate.cautions(command.config):
            logging.warning(line)
        dispatch(command)
    except UserError as error:
        return fail(str(error), error.code)
    except KeyboardInterrupt:
        return fail("interrupted", errors.INTERRUPTED)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            return fail(f"{error.filename or 'writing'}: {error.strerror}", errors.CANNOT_WRITE)
        if "RESOURCE_EXHAUSTED" in str(error):
            wanted = str(error).strip().splitlines()[0]
            return fail(
                f"the devices have too little memory ({wanted}): lower train.batch_size, or "
                "sampling.rows_at_once if training was over, or set model.dtype to bfloat16",
                errors.INTERNAL,
            )
        traceback.print_exc()
        return fail("this is a bug of segdiff_jax, or of what it builds on", errors.INTERNAL)
    return errors.DONE


def dispatch(command: Command) -> None:
    """Does what was asked for. The imports are here because jax takes seconds to import."""
    config, workdir, mode = command.config, command.workdir, command.mode
    if mode in ("prepare", "all"):
        from segdiff_jax.data import sources

        counts = sources.prepare(config.data.name, config.data.dir, config.data.prepared_dir)
        logging.info("%s: %s", config.data.name, ", ".join(f"{n} {s}" for s, n in counts.items()))
    if mode == "prepare":
        return
    from segdiff_jax import evaluate, parallel, train

    parallel.start(command.coordinator, command.processes, command.process)
    if mode in ("train", "all"):
        train.train(config, workdir)
    if mode in ("evaluate", "all"):
        evaluate.evaluate_run(config, workdir)


def set_up_logging() -> None:
    """Shows our messages from INFO on, and those of the libraries from WARNING on."""
    flags.FLAGS.mark_as_parsed()  # or absl says on every start that flags are not
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)

    def wanted(record: python_logging.LogRecord) -> bool:
        if "tracked_metric" in str(record.msg):  # orbax, at each checkpoint between validations
            return False
        return record.levelno >= python_logging.WARNING or "segdiff_jax" in record.pathname

    handler = logging.get_absl_handler()
    handler.addFilter(wanted)
    handler.setFormatter(python_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))


def fail(message: str, code: int) -> int:
    """Prints one line on stderr and returns the code."""
    print(f"segdiff: {' '.join(message.split())}", file=sys.stderr)
    return code


def run() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
