"""The pace of a run is logged where it is known."""

from types import SimpleNamespace

import pytest
from absl import logging

from segdiff_jax.training import metrics_writer

NUMBERS = {"loss": 0.123456, "mse": 0.25}


class Collector:
    """Collects what is written."""

    def __init__(self):
        self.lines = []

    def scalars(self, step, scalars):
        self.lines.append((step, dict(scalars)))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until its `now` is set."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(metrics_writer.time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def logged(monkeypatch):
    """The lines that are logged."""
    lines = []
    monkeypatch.setattr(logging, "info", lambda line, *of: lines.append(line % of))
    return lines


def test_the_pace_is_updates_over_seconds_since_the_last_line(clock, logged):
    pace, writer = metrics_writer.Pace(2, last=302), Collector()
    pace.restart()  # the first update compiles
    for step, clock.now in ((53, 125.0), (63, 165.0)):
        metrics_writer.log(writer, step, NUMBERS, pace)
    assert logged == [
        "update 53 of 302, loss 0.12346, mse 0.25, 2 updates/s, 2.1 min left",
        "update 63 of 302, loss 0.12346, mse 0.25, 0.25 updates/s, 15.9 min left",
    ]
    rates = [(53, NUMBERS | {"steps_per_second": 2.0}), (63, NUMBERS | {"steps_per_second": 0.25})]
    assert writer.lines == rates


def test_an_unknown_pace_is_not_logged(clock, logged):
    pace, writer = metrics_writer.Pace(0, last=1), Collector()
    pace.restart()
    metrics_writer.log(writer, 1, NUMBERS, pace)
    assert logged == ["update 1 of 1, loss 0.12346, mse 0.25"]
    assert writer.lines == [(1, NUMBERS)]
