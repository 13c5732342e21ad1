"""Files are written whole or not at all, and JSON files are strict JSON."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from segdiff_jax.errors import BAD_DATA, CANNOT_WRITE, UserError, bad_data
from segdiff_jax.runtime.files import to_json_types, write_bytes, write_json


class Pair(NamedTuple):
    a: int
    b: float


def test_a_json_file_reads_back_as_plain_types(tmp_path):
    content = {
        "text": "\u00e9",
        "path": Path("a") / "b",
        "bool": np.bool_(True),
        "pair": Pair(1, 2.5),
        "array": np.arange(4, dtype=np.uint8).reshape(2, 2),
        3: None,
    }
    write_json(tmp_path / "deep" / "a.json", content)
    assert json.loads((tmp_path / "deep" / "a.json").read_text()) == {
        "text": "\u00e9",
        "path": str(Path("a") / "b"),
        "bool": True,
        "pair": [1, 2.5],
        "array": [[0, 1], [2, 3]],
        "3": None,
    }
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.json"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.float32("nan"), np.array(np.inf)])
def test_what_is_not_a_finite_number_becomes_null(value, tmp_path):
    write_json(tmp_path / "a.json", {"x": [value, 1.0]})
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == {
        "x": [None, 1.0]
    }


def test_a_value_without_a_json_form_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {1, 2})
    assert json.loads((tmp_path / "a.json").read_text()) == [1]


def test_numbers_and_strings_stay_as_they_are():
    for value in (1, -2.5, "a", True, None):
        assert to_json_types(value) is value


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").touch()
    with pytest.raises(UserError, match="a: cannot be written: .* MB free") as error:
        write_bytes(tmp_path / "a", b"1")
    assert error.value.code == CANNOT_WRITE
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_bad_data_has_the_path_the_reason_and_the_code():
    error = bad_data(Path("a.png"), "holds no pixel")
    assert (str(error), error.code) == ("a.png: holds no pixel", BAD_DATA)
