"""Handles SIGTERM and Ctrl-C (SIGINT), in one process and in several.

    block                 processes  SIGTERM                     SIGINT
    --------------------  ---------  --------------------------  --------------------------
    none of these         any        the program's own handler   the program's own handler
    raise_on_signal       any        raises TerminatedError      raises KeyboardInterrupt
    run_or_exit           any        the same, with a message    the same, with a message
    defer_signals         one        request.is_set()            request.is_set()
                          several    JAX notes it; is_set() in   sends itself SIGTERM
                                     all processes, at the same
                                     of their calls
    run_interruptible     one        returns None at once        returns None at once
      in defer_signals    several    as in defer_signals; asked  sends itself SIGTERM
                                     after each function of
                                     `call_interruptible`

"raises" and "at once" include a running `call_interruptible`, which a thread finishes unheeded.
A signal that is ignored stays ignored. Outside of the main thread no block changes anything.

Several processes must stop at the same training step, or between the same two groups of tiles. JAX
finds it, and takes SIGTERM for that with a handler in C; a handler of Python's would replace it.
"""

import contextlib
import ctypes
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from types import FrameType
from typing import NoReturn, TypeVar

import jax
from jax.experimental import multihost_utils

from segdiff_jax.errors import TerminatedError
from segdiff_jax.runtime import watchdog

ERRORS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: TerminatedError}
POLL_SECONDS = 0.1  # the system may deliver a signal to a thread other than the one that waits

Result = TypeVar("Result")
Handler = Callable[[int, FrameType | None], None]

# for each block that this process is inside of
_raising: list[bool] = []  # raise_on_signal: whether it handles signals
_interruptible: list["StopRequest"] = []  # run_interruptible of several processes
_sync_points = itertools.count(1)  # equal in all processes


class _AgreedError(BaseException):
    """Ends a function in all processes alike; no Exception, which the function might catch."""


class StopRequest:
    """Holds whether the run was asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._agreed = False  # whether several processes have reached the step to stop at

    def note(self, number: int, _: FrameType | None) -> None:
        """Handles a signal: records it."""
        self.signal = number
        if jax.process_count() > 1:
            _terminate_self()

    def is_set(self) -> bool:
        """Whether to stop. Several processes must call it equally often, and get the same value."""
        if jax.process_count() == 1:
            return self.signal is not None
        reached = multihost_utils.reached_preemption_sync_point
        self._agreed = self._agreed or reached(next(_sync_points))  # at the same call in each
        return self._agreed

    def run_interruptible(self, function: Callable[[], Result]) -> Result | None:
        """Returns the function's result, or None if a signal came before or interrupts it.

        Several processes interrupt it alike, after one of its calls of `call_interruptible`.
        """
        try:
            if jax.process_count() > 1:
                _interruptible.append(self)
                try:
                    return function()
                finally:
                    _interruptible.pop()
            with raise_on_signal():
                if self.signal is None:
                    return function()
        except KeyboardInterrupt:
            self.signal = signal.SIGINT
        except TerminatedError:
            self.signal = signal.SIGTERM
        except _AgreedError:
            pass
        return None

    def run_or_exit(self, function: Callable[[], Result], message: str) -> Result:
        """Returns the result of a function before which there is nothing to save.

        Raises:
          TerminatedError, KeyboardInterrupt: with the message, in each process that gets a signal.
        """
        with raise_on_signal(message):
            if self.signal is not None:
                _raise(message, self.signal, None)
            return function()

    def error(self, message: str) -> BaseException:
        """Returns the error that ends the program with the exit code of the signal.

        Shuts JAX's distributed runtime down: processes that stop alike need not fear for others.
        """
        if jax.process_count() > 1:
            jax.distributed.shutdown()
        return ERRORS[signal.Signals(self.signal or signal.SIGTERM)](message)


@contextlib.contextmanager
def defer_signals() -> Iterator[StopRequest]:
    """Defers signals during the block; the caller checks the request after each training step."""
    request = StopRequest()
    with _handling(request.note, ERRORS if jax.process_count() == 1 else [signal.SIGINT]):
        yield request


@contextlib.contextmanager
def raise_on_signal(message: str = "") -> Iterator[None]:
    """Ends the block by an exception when a signal comes, in each process that gets one."""
    with _handling(partial(_raise, message), ERRORS) as handles:
        _raising.append(handles)
        try:
            yield
        finally:
            _raising.pop()


def time_limit(seconds: float) -> contextlib.AbstractContextManager[None]:
    """Sends SIGTERM to this process if the block takes longer than `seconds`; 0: no limit."""
    return watchdog.call_after(seconds, _terminate_self) if seconds else contextlib.nullcontext()


def call_interruptible(function: Callable[[], Result]) -> Result:
    """Calls a function that compiles or waits for devices, and lets signals interrupt it.

    No handler runs while the main thread executes C++. Where signals raise, another thread
    therefore calls the function, and continues without effect after a signal;
    `app.exit_program` does not wait for it. Elsewhere this is a plain call.
    """
    if not any(_raising) or threading.current_thread() is not threading.main_thread():
        result = function()
        if _interruptible and _interruptible[-1].is_set():
            raise _AgreedError
        return result
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # any error is the caller's
            future.set_exception(error)

    threading.Thread(target=work, name="interruptible", daemon=True).start()
    while not wait([future], POLL_SECONDS).done:
        pass
    return future.result()


@contextlib.contextmanager
def _handling(handler: Handler, signals: Iterable[signal.Signals]) -> Iterator[bool]:
    """Installs a handler during the block; yields whether it handles any of the signals."""
    before = []
    # a shell ignores SIGINT for what it starts in the background
    signals = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    with contextlib.suppress(ValueError):  # not in the main thread, where no handler may be set
        for number in signals:
            restore_in_system = _system_handler(number)
            before.append((number, signal.signal(number, handler), restore_in_system))
    try:
        yield bool(before)
    finally:
        for number, old, restore_in_system in before:
            signal.signal(number, old)
            restore_in_system()


def _raise(message: str, number: int, _: FrameType | None) -> NoReturn:
    raise ERRORS[signal.Signals(number)](message)


def _system_handler(number: signal.Signals) -> Callable[[], object]:
    """Reads the system's handler of a signal, and returns a function that restores it.

    JAX's handler is installed in C. Python does not know it, and `signal.signal` does not restore
    it. Windows has no sigaction, and JAX no handler there.
    """
    if sys.platform == "win32":
        return lambda: None
    sigaction = ctypes.CDLL(None).sigaction
    action = ctypes.create_string_buffer(1024)  # a struct sigaction has a sixth of that at most
    sigaction(number, None, action)
    return lambda: sigaction(number, action, None)


def _terminate_self() -> None:
    """Sends SIGTERM to this process; os.kill would end it without a handler on Windows."""
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
