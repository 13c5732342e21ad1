"""What every programme shares: its help, its log, and how its errors end.

A mistake of the user's takes one line on stderr; the traceback is for bugs only.
"""

import contextlib
import errno
import logging as python_logging
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import NoReturn

from absl import flags, logging

from segdiff_jax import errors
from segdiff_jax.errors import TerminatedError, UserError
from segdiff_jax.runtime import watchdog

# what JAX's collectives and its coordination service say when a process is gone
LOST = re.compile(r"Gloo .*failed|Connection (closed|reset) by peer|[Cc]oordination ?[Ss]ervice")


HELP = {"--help", "-help", "-h", "--helpfull", "--helpshort"}


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def run(
    function: Callable[[list[str]], object],
    arguments: list[str],
    doc: str | None,
    less_memory: str,
) -> int:
    """Runs a programme and returns its exit code.

    Args:
      function: the programme; it is given the arguments.
      arguments: the words after the name of the programme.
      doc: what --help prints.
      less_memory: what to do when the devices run out of it, as the end of a sentence.
    """
    assert doc  # python -OO, which takes docstrings away, is not supported
    if HELP & set(arguments):
        print(doc.strip())
        return errors.DONE
    told: list[int] = []  # signals
    try:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, partial(_end_by, told))
            if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
                signal.signal(signal.SIGINT, partial(_end_by, told))
        function(arguments)
    except UserError as error:
        for line in error.details:
            fail(line, error.code)
        return fail(str(error), error.code)
    except KeyboardInterrupt as error:
        return fail(str(error) or "interrupted", errors.INTERRUPTED)
    except TerminatedError as error:
        return fail(str(error) or "terminated", errors.TERMINATED)
    except ImportError as error:
        # numpy and others, written in C, make one of whatever is raised while they are imported
        if not told:
            return _end(error, less_memory)
        terminated = told[-1] == signal.SIGTERM
        how = (
            ("terminated", errors.TERMINATED) if terminated else ("interrupted", errors.INTERRUPTED)
        )
        return fail(*how)
    except Exception as error:
        return _end(error, less_memory)
    return errors.DONE


def _end_by(told: list[int], number: int, frame: FrameType | None) -> None:
    """Handles a signal: notes it, and raises what ends the programme."""
    told.append(number)
    raise TerminatedError if number == signal.SIGTERM else KeyboardInterrupt


def _end(error: Exception, less_memory: str) -> int:
    """Says what went wrong outside of our own errors."""
    lost = [line for line in _lines(error) if LOST.search(line)]
    if lost and _joined():
        return fail(f"lost another process of the job ({lost[0]})", errors.PEER_LOST)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return fail(f"{error.filename or 'writing'}: {error.strerror}", errors.CANNOT_WRITE)
    if "RESOURCE_EXHAUSTED" in str(error):
        wanted = str(error).strip().splitlines()[0]
        message = f"the devices have too little memory ({wanted}): {less_memory}"
        return fail(message, errors.INTERNAL)
    traceback.print_exception(error)
    return fail("this is a bug of segdiff_jax, or of what it builds on", errors.INTERNAL)


def _lines(error: BaseException | None) -> Iterator[str]:
    """Yields what an error says, and what it came from."""
    while error is not None:
        yield from str(error).splitlines()
        error = error.__cause__ or error.__context__


def _joined() -> bool:
    """Whether this process is one of several; needs no import of jax."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def exit_program(code: int) -> NoReturn:
    """Ends the process with an exit code of `run`.

    One of several that failed ends at once: an orderly exit would wait for the others for minutes,
    and they wait for it in the next collective. So does one that was told to end, which has saved
    what there is, and may have left a thread behind that compiles: an orderly exit would crash.
    """
    joined = bool(code) and _joined()
    if joined or code in (errors.INTERRUPTED, errors.TERMINATED):
        coordinator = joined and sys.modules["jax"].process_index() == 0
        watchdog.exit_now("", code, coordinator)
    sys.exit(code)


def set_up_logging() -> None:
    """Shows our messages from INFO on, and those of the libraries from WARNING on."""
    flags.FLAGS.mark_as_parsed()  # or absl says on every start that flags are not
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.addFilter(_wanted)
    handler.setFormatter(python_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))


def _wanted(record: python_logging.LogRecord) -> bool:
    orbax = "orbax" in record.pathname
    if orbax and "tracked_metric" in str(record.msg):  # at each checkpoint between validations
        return False
    if orbax and record.exc_info:  # a save that failed: who waits for it says why in one line
        return False
    return record.levelno >= python_logging.WARNING or "segdiff_jax" in record.pathname


def fail(message: str, code: int) -> int:
    """Prints one line on stderr and returns the code."""
    print(f"segdiff: {' '.join(map(str.strip, message.splitlines()))}", file=sys.stderr)
    return code
