"""SIGTERM and Ctrl-C: at once where nothing is lost by it, after the running update where it is.

In one process these handlers do it. In several, JAX itself takes SIGTERM and lets all of them agree
on where to stop: after an update, or between two groups of tiles that are answered. A handler of
ours would keep it from learning of the signal, so there is none from the first update on. Ctrl-C is
made a SIGTERM there.
"""

import contextlib
import ctypes
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from types import FrameType
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

from segdiff_jax.errors import TerminatedError

KINDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: TerminatedError}


# Seconds after which a wait looks up: systems may hand a signal to a thread that does not wait.
LOOKS_UP = 0.1


Result = TypeVar("Result")


class _AgreedError(BaseException):
    """All processes stop here; not an Exception, which somebody might catch."""


class StopRequest:
    """Whether the run was asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._agreed = False  # whether several processes have found where to stop

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remembers a signal; a handler."""
        del frame
        self.signal = number
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def is_set(self) -> bool:
        """Whether to stop; several processes, which must ask equally often, get one answer."""
        if jax.process_count() == 1:
            return self.signal is not None
        # which is true only once, in every process at the same of its questions
        reached = not self._agreed and multihost_utils.reached_preemption_sync_point(next(_asked))
        self._agreed = self._agreed or reached
        return self._agreed

    def run_interruptible(self, function: Callable[[], Result]) -> Result | None:
        """Returns what a function returns, or None where a signal came before or breaks it off.

        Several processes break it off alike, where it has called `call_interruptible`.
        """
        try:
            if jax.process_count() > 1:
                with self._asking():
                    return function()
            with _handled(_raise, tuple(KINDS)):
                if self.signal is None:
                    return function()
        except KeyboardInterrupt:
            self.signal = signal.SIGINT
        except TerminatedError:
            self.signal = signal.SIGTERM
        except _AgreedError:
            pass
        return None

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Whatever is `call_interruptible` inside asks this request whether to go on."""
        _listening.append(self)
        try:
            yield
        finally:
            _listening.pop()

    def run_or_exit(self, function: Callable[[], Result], message: str) -> Result:
        """Returns what a function returns; by a signal it ends, as nothing is lost by that.

        Raises:
          TerminatedError, KeyboardInterrupt: with the message, in each process that gets a signal.
        """
        try:
            with raise_on_signal():
                if self.signal is not None:
                    raise KINDS[signal.Signals(self.signal)]
                return function()
        except (KeyboardInterrupt, TerminatedError) as error:
            raise type(error)(message) from None

    def error(self, message: str) -> BaseException:
        """Returns what ends the programme with the exit code of the signal.

        Processes that agreed to stop take leave of each other here.
        """
        if jax.process_count() > 1:
            jax.distributed.shutdown()
        return (
            KeyboardInterrupt(message) if self.signal == signal.SIGINT else TerminatedError(message)
        )


@contextlib.contextmanager
def defer_signals() -> Iterator[StopRequest]:
    """Signals no longer interrupt, but are remembered; the caller looks after every update."""
    request = StopRequest()
    with _handled(request.note, tuple(KINDS) if jax.process_count() == 1 else (signal.SIGINT,)):
        yield request


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """What is inside is told to end, as by SIGTERM, when its time is over; 0: it is not."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    if seconds:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def raise_on_signal() -> Iterator[None]:
    """What is inside ends by a signal, in every process that gets one: nothing is lost by it."""
    with _handled(_raise, tuple(KINDS)):
        yield


def call_interruptible(function: Callable[[], Result]) -> Result:
    """Calls a function that compiles or waits for devices, such that a signal breaks it off.

    No handler runs while the main thread is outside of Python. So another thread does the work, and
    goes on with it unheeded when this one is called away; `app.exit_program` does not wait for it.
    Outside of `raise_on_signal` and `run_interruptible` this is a plain call.
    Several processes inside of `run_interruptible` finish the function, and ask each other then.
    """
    if not _breaking or threading.current_thread() is not threading.main_thread():
        result = function()
        if _listening and _listening[-1].is_set():
            raise _AgreedError
        return result
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # whatever it is belongs to the caller
            future.set_exception(error)

    threading.Thread(target=work, name="interruptible", daemon=True).start()
    while not wait([future], LOOKS_UP).done:
        pass
    return future.result()


_breaking: list[bool] = []  # one for each `_handled(_raise)` we are inside of


_listening: list[StopRequest] = []  # one for each `run_interruptible` of several processes


_asked = itertools.count(1)  # questions of this process to the others


def _raise(number: int, frame: FrameType | None) -> None:
    del frame
    raise KINDS[signal.Signals(number)]("")


@contextlib.contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], None], kinds: Sequence[signal.Signals]
) -> Iterator[None]:
    try:
        # what a shell started in the background is to ignore Ctrl-C
        kinds = [number for number in kinds if signal.getsignal(number) != signal.SIG_IGN]
        actions = {number: _action(number) for number in kinds}
        before = {number: signal.signal(number, handler) for number in kinds}
    except ValueError:  # not in the main thread, where signals cannot be handled
        actions, before = {}, {}
    if handler is _raise and before:
        _breaking.append(True)
    try:
        yield
    finally:
        if handler is _raise and before:
            _breaking.pop()
        for number, old in before.items():
            signal.signal(number, old)
            _C.sigaction(number, actions[number], None)


_C = ctypes.CDLL(None)


def _action(number: signal.Signals) -> ctypes.Array:
    """Returns what the system does at a signal: Python does not know of the handler of JAX."""
    action = ctypes.create_string_buffer(1024)  # a struct sigaction is a sixth of that at most
    _C.sigaction(number, None, action)
    return action
