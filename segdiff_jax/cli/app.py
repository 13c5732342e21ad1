"""Runs a program: --help, exit code, logging, and how errors are reported.

A user's mistake takes one line on stderr; a traceback is printed for internal errors only.
"""

import contextlib
import logging as python_logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from absl import flags, logging

from segdiff_jax import errors
from segdiff_jax.errors import TerminatedError, UserError
from segdiff_jax.runtime import files, startup, watchdog

# messages of JAX's collectives and its coordination service when a process is gone
LOST = re.compile(r"Gloo .*failed|Connection (closed|reset) by peer|[Cc]oordination ?[Ss]ervice")
HELP = {"--help", "-help", "-h", "--helpfull", "--helpshort"}
ENDING_SECONDS = 30.0  # to clean up after a signal
ENDINGS = {signal.SIGTERM: TerminatedError, signal.SIGINT: KeyboardInterrupt}

_started = False  # whether this process is that of a program


def start(main: Callable[[list[str]], int]) -> NoReturn:
    """Runs the main function of a program with the arguments of this process, and exits."""
    global _started
    sys.unraisablehook = _without_aftermath(sys.unraisablehook)
    startup.reexec_with_huge_pages()
    _started = True
    watchdog.exit_with_launcher()
    exit_program(main(sys.argv[1:]))


def _without_aftermath(show: Callable[[Any], object]) -> Callable[[Any], None]:
    """Returns a hook of sys.unraisablehook that leaves out the aftermath of a save that failed.

    TensorStore goes on with other arrays, and tells an event loop that has ended, for each of them.
    """

    def hook(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            show(unraisable)

    return hook


def run(
    program: Callable[[list[str]], object], argv: list[str], help_text: str | None, less_memory: str
) -> int:
    """Calls a program with its arguments, or prints its help, and returns the exit code.

    `less_memory` completes a sentence: what to do when the devices run out of memory.
    """
    if HELP & set(argv):
        return show(help_text or "")
    received: list[signal.Signals] = []
    try:
        with contextlib.suppress(ValueError):  # not in the main thread
            for number in ENDINGS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, partial(_raise, received))
        program(argv)
    except (Exception, KeyboardInterrupt, TerminatedError) as error:
        if received and not isinstance(error, UserError | KeyboardInterrupt | TerminatedError):
            # C extensions may turn an exception into another
            error = ENDINGS[received[-1]]()
        return _report(error, less_memory)
    return errors.DONE


def _raise(received: list[signal.Signals], number: int, _: FrameType | None) -> NoReturn:
    if startup.is_importing():  # nothing has begun that would have to be saved
        startup.end(number, None)
    received.append(signal.Signals(number))
    code = errors.TERMINATED if number == signal.SIGTERM else errors.INTERRUPTED
    # a C extension may swallow the exception
    if _started:
        watchdog.exit_after(ENDING_SECONDS, signal.Signals(number).name, code)
    raise ENDINGS[received[-1]]


def _report(error: BaseException, less_memory: str) -> int:
    """Prints what ended a program and returns its exit code."""
    match error:
        case UserError():
            return [fail(line, error.code) for line in (*error.details, str(error))][-1]
        case KeyboardInterrupt():
            return fail(str(error) or "interrupted", errors.INTERRUPTED)
        case TerminatedError():
            return fail(str(error) or "terminated", errors.TERMINATED)
    if isinstance(error, BrokenPipeError) and _stdout_is_closed():
        return errors.DONE
    lost = [line for line in _messages(error) if LOST.search(line)]
    if lost and _is_joined():
        return fail(f"lost another process of the job ({lost[0]})", errors.PEER_LOST)
    if isinstance(error, OSError) and error.errno in files.CAUSES:
        return fail(f"{error.filename or 'writing'}: {error.strerror}", errors.CANNOT_WRITE)
    if "RESOURCE_EXHAUSTED" in str(error):
        wanted = f"the devices have too little memory ({str(error).strip().splitlines()[0]})"
        return fail(f"{wanted}: {less_memory}", errors.INTERNAL)
    traceback.print_exception(error)
    return fail("internal error of segdiff_jax, or of a library it uses", errors.INTERNAL)


def _messages(error: BaseException | None) -> Iterator[str]:
    """Yields the lines of an error's message and of those it was caused by."""
    while error is not None:
        yield from str(error).splitlines()
        error = error.__cause__ or error.__context__


def _is_joined() -> bool:
    """Returns whether this process is one of several, without importing jax."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def exit_program(code: int) -> NoReturn:
    """Ends the process with an exit code of `run`.

    One of several that failed ends at once: an orderly exit would wait minutes for the others,
    which wait for it in the next collective. So does one that was interrupted or terminated: its
    state is saved, and a thread may still be compiling, which crashes an orderly exit. And one that
    cannot write, as what it is still writing fails, too.
    """
    failed_peer = bool(code) and _is_joined()
    at_once = (errors.INTERRUPTED, errors.TERMINATED, errors.CANNOT_WRITE)
    if failed_peer or code in at_once:
        coordinator = failed_peer and sys.modules["jax"].process_index() == 0
        watchdog.exit_now("", code, coordinator)
    sys.exit(code)


def set_up_logging() -> None:
    """Shows messages of this package from INFO on, and those of libraries from WARNING on."""
    flags.FLAGS.mark_as_parsed()  # or absl warns at every start that they are not
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.addFilter(_is_shown)
    handler.addFilter(_with_printable_names)
    handler.setFormatter(python_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))


def _is_shown(record: python_logging.LogRecord) -> bool:
    # at each checkpoint between validations, and of a failed save, which is reported elsewhere
    noise = "tracked_metric" in str(record.msg) or record.exc_info
    if noise and "orbax" in record.pathname:
        return False
    if record.name == "asyncio" and "never retrieved" in record.getMessage():
        return False  # of the arrays of such a save
    return record.levelno >= python_logging.WARNING or "segdiff_jax" in record.pathname


def _with_printable_names(record: python_logging.LogRecord) -> bool:
    """Escapes control characters in what a message names: files of others, and their errors."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            errors.printable(str(one)) if isinstance(one, str | os.PathLike | Exception) else one
            for one in record.args
        )
    return True


def show(text: str) -> int:
    """Prints a text on stdout and returns exit code 0, also if the reader (`| head`) is gone."""
    with contextlib.suppress(BrokenPipeError):
        print(text.strip(), flush=True)
    _stdout_is_closed()
    return errors.DONE


def _stdout_is_closed() -> bool:
    """Returns whether the reader of stdout is gone; then nothing is written to it any more."""
    if sys.stdout is None:
        return False
    try:
        sys.stdout.flush()
        return False
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit fails, too
        return True


def fail(message: str, code: int) -> int:
    """Prints one line on stderr and returns the code."""
    line = " ".join(map(str.strip, message.split("\n")))
    print(f"segdiff: {errors.printable(line)}", file=sys.stderr)
    return code
