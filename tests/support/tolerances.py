"""Records which share of its tolerance each comparison of a test uses; a plugin for pytest.

    PYTHONPATH=tests/support python -m pytest -p tolerances --tolerances=shares.json

A share is the largest |actual - expected| / (atol + rtol * |expected|), whether the test calls
`np.testing.assert_allclose` or `pytest.approx`: above 1 the test fails. The file says
{test: {"file:line": share}} of the tests that compare with a tolerance.
"""

import json
import math
import sys
from numbers import Real
from pathlib import Path

import numpy as np
import pytest

ApproxScalar = type(pytest.approx(1.0))  # on which those of sequences and arrays are based
TESTS = Path(__file__).resolve().parents[1]
SUPPORT = {__file__, str(Path(__file__).with_name("bounds.py"))}


def pytest_addoption(parser):
    """Adds the option that names the file."""
    parser.addoption("--tolerances", type=Path, help="where to write the shares of tolerances used")


def pytest_configure(config):
    """Starts to record if a file is named."""
    if file := config.getoption("tolerances"):
        config.pluginmanager.register(Recorder(config, file.resolve()))


def share(actual, expected, rtol, atol):
    """Computes the largest difference in units of what is allowed; equal values use nothing."""
    actual, expected = np.broadcast_arrays(
        *(np.asarray(values).astype(np.float64) for values in (actual, expected))
    )
    differs = ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))
    allowed = np.broadcast_to(atol + rtol * np.abs(expected), differs.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        used = np.abs(actual - expected)[differs] / allowed[differs]
    return float(np.nan_to_num(used, nan=np.inf).max(initial=0))


def place():
    """Names the line of the test that compares, itself or in a function it calls."""
    found, frame = "outside of the tests", sys._getframe(1)
    while frame:
        file = frame.f_code.co_filename
        if file not in SUPPORT and Path(file).is_relative_to(TESTS):
            found = f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return found


class Recorder:
    """Replaces the comparisons by ones that record, and gathers what all processes recorded."""

    def __init__(self, config, file):
        self.is_worker, self.file = hasattr(config, "workerinput"), file
        self.used, self.found = {}, {}  # of the test that runs, of all
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(
            np.testing, "assert_allclose", self.of_arrays(np.testing.assert_allclose)
        )
        self.patch.setattr(ApproxScalar, "__eq__", self.of_numbers(ApproxScalar.__eq__))

    def keep(self, *comparison):
        """Keeps the largest share of a line; what cannot be compared fails without one."""
        try:
            value = share(*comparison)
        except (TypeError, ValueError):
            return
        where = place()
        self.used[where] = max(value, self.used.get(where, 0.0))

    def of_arrays(self, compare):
        """Wraps assert_allclose."""

        def assert_allclose(actual, desired, rtol=1e-7, atol=0, *args, **named):
            if rtol or atol:
                self.keep(actual, desired, rtol, atol)
            return compare(actual, desired, rtol, atol, *args, **named)

        return assert_allclose

    def of_numbers(self, compare):
        """Wraps the comparison of a number with what it should be about."""

        def equals(this, actual):
            finite = isinstance(this.expected, Real) and math.isfinite(this.expected)
            if finite and np.ndim(actual) == 0 and this.tolerance:
                self.keep(actual, this.expected, 0, this.tolerance)
            return compare(this, actual)

        return equals

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        """Attaches what a test used to its report, which pytest-xdist hands on."""
        self.used = {}
        try:
            return (yield)
        finally:
            item.user_properties.append(("tolerances", self.used))

    def pytest_runtest_logreport(self, report):
        """Takes what a test used from its report."""
        used = dict(report.user_properties).get("tolerances")
        if report.when == "call" and used:
            self.found[report.nodeid] = used

    def pytest_sessionfinish(self):
        """Writes the file."""
        if not self.is_worker:
            self.file.write_text(json.dumps(self.found, indent=1))

    def pytest_unconfigure(self):
        """Puts the comparisons back."""
        self.patch.undo()
