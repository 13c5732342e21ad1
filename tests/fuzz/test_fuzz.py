"""Damaged files of every reader are read or refused in one line; `make fuzz` takes more of them."""

import fuzz
import numpy as np
import pytest
from damage import damaged
from readers import LIMITS, READERS
from whole_images import IMAGES

from segdiff_jax import errors
from segdiff_jax.data.image_io import reading


def test_whole_images_are_read(tmp_path):
    for name, content in IMAGES.items():
        path = tmp_path / "file"
        path.write_bytes(content)
        if name == "several pages":
            with pytest.raises(errors.UserError, match="has 3 pages"):
                reading.read_image(path, LIMITS)
        else:
            assert reading.read_image(path, LIMITS).shape[:2] in ((12, 15), (15, 12)), name


@pytest.mark.parametrize("name", ["XML", "pt", "config"])
def test_whole_files_are_read(tmp_path, name):
    reader = READERS[name]
    for content in reader.files.values():
        (tmp_path / reader.name).write_bytes(content)
        for read in reader.read:
            read(tmp_path / reader.name)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, capfd, name):
    found = fuzz.fuzz(name, 100, 0, seed=1, folder=tmp_path)
    assert found.faults == ()
    assert found.refused > 20 and found.slowest < fuzz.SLOW
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err + captured.out


def test_a_batch_with_damaged_files_ends_and_names_each(tmp_path):
    found = fuzz.fuzz_batch(60, seed=2, folder=tmp_path)
    assert found.faults == ()
    assert found.read > 0 and found.refused > 0 and found.inputs == 60


def test_a_reader_that_raises_something_else_is_a_fault(tmp_path, monkeypatch):
    def broken(path):
        raise ValueError(f"{path} surprises")

    monkeypatch.setitem(READERS, "XML", READERS["XML"]._replace(read=(broken,)))
    found = fuzz.fuzz("XML", 3, 0, seed=0, folder=tmp_path)
    assert len(found.faults) == 3 and "ValueError" in found.faults[0]


def test_a_damaged_png_is_read_as_it_was_or_refused(tmp_path):
    """Its checksums cover every byte that has a meaning."""
    rng, path = np.random.default_rng(3), tmp_path / "file"
    for name, content in READERS["PNG"].files.items():
        path.write_bytes(content)
        expected = reading.read_image(path, LIMITS)
        for _ in range(20):
            path.write_bytes(damaged(content, rng))
            try:
                found = reading.read_image(path, LIMITS)
            except errors.UserError:
                continue
            np.testing.assert_array_equal(found, expected, name)
