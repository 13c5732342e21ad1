"""Lines of CSV that are appended and read back, also after a line that was cut."""

import builtins
import errno
import os

import pytest

from segdiff_jax.errors import CANNOT_WRITE, UserError
from segdiff_jax.prediction import csv_files


def test_lines_come_back_and_an_incomplete_last_one_is_dropped(tmp_path):
    path = tmp_path / "a.csv"
    csv_files.append(path, [["a,b", 1], ['"', "ü"]])
    csv_files.append(path, [["c", 2.5]])
    whole = [["a,b", "1"], ['"', "ü"], ["c", "2.5"]]
    assert csv_files.read(path) == whole
    path.write_bytes(path.read_bytes() + b"half of a li")
    assert csv_files.read(path) == whole


def test_a_line_that_the_disk_takes_in_part_is_a_full_disk(tmp_path, monkeypatch):
    class Full:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def write(self, text):
            return len(text) - 1

    monkeypatch.setattr(builtins, "open", Full)
    with pytest.raises(UserError) as error:
        csv_files.append(tmp_path / "a.csv", [["a"]])
    assert error.value.code == CANNOT_WRITE
    assert os.strerror(errno.ENOSPC) in str(error.value)
