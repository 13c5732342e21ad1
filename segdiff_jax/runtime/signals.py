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
from types import FrameType
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

from segdiff_jax.errors import TerminatedError

ERRORS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: TerminatedError}
POLL_SECONDS = 0.1  # the system may deliver a signal to a thread other than the one that waits

Result = TypeVar("Result")
Handler = Callable[[int, FrameType | None], None]


class _AgreedError(BaseException):
    """Ends a function in all processes alike; no Exception, which the function might catch."""


class StopRequest:
    """Holds whether the run was asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._agreed = False  # whether several processes have reached the step to stop at

    def note(self, number: int, frame: FrameType | None) -> None:
        """Records a signal; a handler."""
        del frame
        self.signal = number
        if jax.process_count() > 1:
            _send_to_self(signal.SIGTERM)

    def is_set(self) -> bool:
        """Whether to stop. Several processes must call it equally often, and get the same value."""
        if jax.process_count() == 1:
            return self.signal is not None
        self._agreed = self._agreed or _state.reached_sync_point()
        return self._agreed

    def run_interruptible(self, function: Callable[[], Result]) -> Result | None:
        """Returns the function's result, or None if a signal came before or interrupts it.

        Several processes interrupt it alike, after one of its calls of `call_interruptible`.
        """
        try:
            if jax.process_count() > 1:
                with _state.asking(self):
                    return function()
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
        try:
            with raise_on_signal():
                if self.signal is not None:
                    raise ERRORS[signal.Signals(self.signal)]
                return function()
        except (KeyboardInterrupt, TerminatedError) as error:
            raise type(error)(message) from None

    def error(self, message: str) -> BaseException:
        """Returns the error that ends the program with the exit code of the signal.

        Shuts JAX's distributed runtime down: processes that stop alike need not fear for others.
        """
        if jax.process_count() > 1:
            jax.distributed.shutdown()
        return (
            KeyboardInterrupt(message) if self.signal == signal.SIGINT else TerminatedError(message)
        )


@contextlib.contextmanager
def defer_signals() -> Iterator[StopRequest]:
    """Defers signals during the block; the caller checks the request after each training step."""
    request = StopRequest()
    with _state.handling(request.note, ERRORS if jax.process_count() == 1 else [signal.SIGINT]):
        yield request


@contextlib.contextmanager
def raise_on_signal() -> Iterator[None]:
    """Ends the block by an exception when a signal comes, in each process that gets one."""
    with _state.raising():
        yield


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Sends SIGTERM to this process if the block takes longer than `seconds`; 0: no limit."""
    timer = threading.Timer(seconds, _send_to_self, [signal.SIGTERM])
    timer.daemon = True
    if seconds:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def call_interruptible(function: Callable[[], Result]) -> Result:
    """Calls a function that compiles or waits for devices, and lets signals interrupt it.

    No handler runs while the main thread executes C++. Where signals raise, another thread
    therefore calls the function, and continues without effect after a signal;
    `app.exit_program` does not wait for it. Elsewhere this is a plain call.
    """
    if not _state.raises or threading.current_thread() is not threading.main_thread():
        result = function()
        _state.raise_if_agreed()
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


class _SignalState:
    """Owns what this process does at a signal: the nested blocks, and their handlers.

    Attributes:
      raises: the number of blocks that we are inside of and in which signals raise.
    """

    def __init__(self) -> None:
        self.raises = 0
        self._requests: list[StopRequest] = []  # of run_interruptible, in several processes
        self._sync_points = itertools.count(1)  # equal in all processes

    def reached_sync_point(self) -> bool:
        """Whether all processes stop here; true once, at the same call in each of them."""
        return multihost_utils.reached_preemption_sync_point(next(self._sync_points))

    @contextlib.contextmanager
    def asking(self, request: StopRequest) -> Iterator[None]:
        """Lets each `call_interruptible` of the block ask the request whether to continue."""
        self._requests.append(request)
        try:
            yield
        finally:
            self._requests.pop()

    def raise_if_agreed(self) -> None:
        """Raises _AgreedError where the innermost request is set."""
        if self._requests and self._requests[-1].is_set():
            raise _AgreedError

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Lets signals raise during the block."""
        with self.handling(_raise, ERRORS) as handles:
            self.raises += handles
            try:
                yield
            finally:
                self.raises -= handles

    @contextlib.contextmanager
    def handling(self, handler: Handler, signals: Iterable[signal.Signals]) -> Iterator[bool]:
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


_state = _SignalState()


def _raise(number: int, frame: FrameType | None) -> None:
    del frame
    raise ERRORS[signal.Signals(number)]("")


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


def _send_to_self(number: signal.Signals) -> None:
    """Sends a signal to this process; os.kill would end it without a handler on Windows."""
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)
