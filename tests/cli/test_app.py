"""After a save that failed, one line is shown and not what other threads make of it."""

import logging
from types import SimpleNamespace

import pytest

from segdiff_jax.cli import app


@pytest.mark.parametrize(
    "error, shown",
    [
        (RuntimeError("Event loop is closed"), False),
        (RuntimeError("another"), True),
        (ZeroDivisionError(), True),
        (None, True),
    ],
)
def test_of_errors_that_nobody_can_catch_only_that_aftermath_is_left_out(error, shown):
    found = []
    app._without_aftermath(found.append)(SimpleNamespace(exc_value=error))
    assert bool(found) is shown


@pytest.mark.parametrize(
    "name, message, shown",
    [
        ("asyncio", "Future exception was never retrieved", False),
        ("asyncio", "Executing took 3 seconds", True),
        ("other", "Future exception was never retrieved", True),
    ],
)
def test_of_asyncio_only_errors_that_were_reported_are_left_out(name, message, shown):
    record = logging.LogRecord(name, logging.ERROR, "base_events.py", 1, message, (), None)
    assert app._is_shown(record) is shown
