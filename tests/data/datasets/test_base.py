"""What every data set shares: one file that fails, for whatever reason, is one line."""

from pathlib import Path

import pytest

from segdiff_jax import errors
from segdiff_jax.data.datasets import base


def item(name, error=None):
    def read():
        yield f"{name} 1", {}
        if error is not None:
            raise error
        yield f"{name} 2", {}

    return base.Item((Path(name),), read)


@pytest.mark.parametrize(
    "error, line",
    [
        (errors.bad_data("b", "is damaged"), "b: is damaged"),
        (AssertionError(), "b: cannot be used (AssertionError)"),
        (OSError(5, "Input/output\nerror"), "b: cannot be used (OSError: [Errno 5] Input/output e"),
        (RecursionError("too deep"), "b: cannot be used (RecursionError: too deep)"),
        (MemoryError(), "b: cannot be used (it takes more memory than there is)"),
    ],
)
def test_whatever_a_file_raises_is_its_line_and_the_others_are_read(error, line):
    problems = []
    read = list(base.read([item("a"), item("b", error), item("c")], problems, ""))
    assert [key for key, _ in read] == ["a 1", "a 2", "b 1", "c 1", "c 2"]
    assert len(problems) == 1 and problems[0].startswith(line) and "\n" not in problems[0]


def test_an_error_without_a_file_is_one_of_the_program():
    broken = base.Item((), item("", ZeroDivisionError()).read)
    with pytest.raises(ZeroDivisionError):
        list(base.read([broken], [], ""))
