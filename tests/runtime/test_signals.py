"""Signals end, interrupt or defer what runs, also where no handler of Python's can run."""

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import pytest
from tiny_config import ROOT

from segdiff_jax.cli import app
from segdiff_jax.errors import INTERNAL, INTERRUPTED, TERMINATED, TerminatedError
from segdiff_jax.runtime import signals

KINDS = [(signal.SIGTERM, TerminatedError), (signal.SIGINT, KeyboardInterrupt)]


@pytest.fixture(autouse=True)
def own_handlers():
    before = {kind: signal.signal(kind, signal.default_int_handler) for kind, _ in KINDS}
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


def signal_soon(kind, seconds=0.2):
    threading.Timer(seconds, os.kill, (os.getpid(), kind)).start()


@pytest.mark.parametrize(
    ("kind", "code"),
    [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED), (None, INTERNAL)],
)
def test_a_signal_that_an_import_turns_into_an_import_error_is_still_one(kind, code, capsys):
    """As numpy does, which is written in C."""

    def imports(arguments):
        try:
            if kind is not None:
                os.kill(os.getpid(), kind)
                time.sleep(10)
        except BaseException:
            pass
        raise ImportError("numpy._core.multiarray failed to import")

    assert app.run(imports, [], "doc", "less") == code
    assert ("Traceback" in capsys.readouterr().err) == (kind is None)


@pytest.mark.parametrize(("kind", "error"), KINDS)
def test_a_signal_interrupts_a_call_outside_of_python(kind, error):
    finished = threading.Event()

    def works():
        hashlib.pbkdf2_hmac("sha256", b"", b"", 3_000_000)  # seconds outside of Python
        finished.set()

    signal_soon(kind)
    with pytest.raises(error), signals.raise_on_signal():
        signals.call_interruptible(works)
    assert not finished.is_set() and finished.wait(60)  # its thread continues


def test_without_a_signal_the_result_and_the_errors_are_those_of_a_plain_call():
    def fails():
        raise ZeroDivisionError("as it was")

    with signals.raise_on_signal():
        assert signals.call_interruptible(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError, match="as it was") as caught:
            signals.call_interruptible(fails)
    assert "in fails" in "".join(traceback.format_tb(caught.value.__traceback__))


def test_a_thread_is_used_only_where_signals_raise():
    here = threading.get_ident()
    assert signals.call_interruptible(threading.get_ident) == here
    with signals.defer_signals():
        assert signals.call_interruptible(threading.get_ident) == here
    with signals.raise_on_signal():
        assert signals.call_interruptible(threading.get_ident) != here
    assert signals.call_interruptible(threading.get_ident) == here


@pytest.mark.parametrize(("kind", "error"), KINDS)
def test_a_deferred_signal_sets_the_request_and_nothing_long_starts_after_it(kind, error):
    with signals.defer_signals() as request:
        assert request.run_interruptible(lambda: 7) == 7 and not request.is_set()
        signal_soon(kind)
        assert request.run_interruptible(lambda: time.sleep(30)) is None and request.is_set()
        assert request.run_interruptible(lambda: pytest.fail("it was begun")) is None
        assert isinstance(request.error("told"), error)
        with pytest.raises(error, match="nothing was made"):
            request.run_or_exit(lambda: pytest.fail("it was begun"), "nothing was made")


def test_run_or_exit_ends_by_a_signal_with_the_message():
    with signals.defer_signals() as request:
        assert request.run_or_exit(lambda: 7, "nothing was made") == 7
        signal_soon(signal.SIGTERM)
        with pytest.raises(TerminatedError, match="nothing was made"):
            request.run_or_exit(lambda: time.sleep(30), "nothing was made")


def test_a_handler_that_python_does_not_know_is_restored():
    heard = []
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(heard.append)
    c = ctypes.CDLL(None)
    c.signal(signal.SIGTERM, handler)
    with pytest.raises(TerminatedError), signals.raise_on_signal():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]


LEAVES = """
import sys, threading
from segdiff_jax import errors
from segdiff_jax.cli import app
threading.Thread(target=threading.Event().wait).start()
print("written", end="")
app.exit_program(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [TERMINATED, INTERRUPTED])
def test_an_interrupted_process_does_not_wait_for_its_threads(code):
    words = [sys.executable, "-c", LEAVES, str(code)]
    done = subprocess.run(words, cwd=ROOT, timeout=60, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (code, b"written")
