"""Images and masks of NumPy's files: every layout and type, and all that is no plain array."""

import io
import tracemalloc

import numpy as np
import pytest
import tifffile

from segdiff_jax.data.image_io import bands, masks, pixel_size, reading, writing
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import BAD_DATA, UserError

RNG = np.random.default_rng(3)
PICTURE = RNG.integers(0, 256, (9, 13, 5), np.uint8)
LABELS = np.zeros((9, 13), np.int64)
LABELS[1:4, 1:6], LABELS[5:8, 2:9] = 1, 70_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npy"


def save(path, array, **options):
    np.save(path, array, **options)
    return path


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f2", "f4", "f8", "i8", "u8"])
def test_an_array_shows_what_a_tiff_of_its_values_shows(path, dtype, order, swapped):
    values = PICTURE[..., :3].astype(dtype) * (1 if dtype == "u1" else 7)
    values = np.asarray(values.astype(values.dtype.newbyteorder("><"[swapped])), order=order)
    same = {"f2": "f4", "i8": "f8", "u8": "f8"}.get(dtype, dtype)  # that TIFF has, of these values
    tifffile.imwrite(tiff := path.with_suffix(".tif"), values.astype(same), photometric="rgb")
    found, expected = reading.read(save(path, values)), reading.read(tiff)
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert reading.read_size(path) == (9, 13)
    if same == dtype:
        assert found.values == expected.values
    if dtype == "u1":
        np.testing.assert_array_equal(found.pixels, PICTURE[..., :3])


@pytest.mark.parametrize("last", [(), (1,)])
def test_grey_has_two_axes_or_one_channel(path, last):
    save(path, PICTURE[..., 0].reshape(9, 13, *last))
    np.testing.assert_array_equal(reading.read_image(path), PICTURE[..., [0, 0, 0]])
    save(path, (PICTURE[..., 0] > 99).reshape(9, 13, *last))
    assert set(np.unique(reading.read_image(path))) == {0, 255}


@pytest.mark.parametrize("order", ["C", "F"])
def test_channels_are_chosen_or_named_in_every_layout(path, order, monkeypatch):
    monkeypatch.setattr("segdiff_jax.data.image_io.numpy_files._BLOCK", 64)  # a few pixels at once
    save(path, np.asarray(PICTURE, order=order))
    chosen = reading.read_image(path, Limits(channels=(4, 0, 2)))
    np.testing.assert_array_equal(chosen, PICTURE[..., [4, 0, 2]])
    alone = reading.read_image(path, Limits(channels=(3,)))
    np.testing.assert_array_equal(alone, PICTURE[..., [3, 3, 3]])
    named = bands.read(path, ("a", "b", "c", "d", "e"))
    np.testing.assert_array_equal(named.pixels, PICTURE)
    with pytest.raises(UserError, match=r"a.npy: has 5 channels; allowed are the 2 of config.data"):
        bands.read(path, ("a", "b"))
    with pytest.raises(UserError, match="has 5 channels; allowed are the 6 of config.data"):
        bands.read(path, tuple("abcdef"))


def test_masks_are_truth_values_two_values_or_labels(path):
    for dtype in (bool, np.uint8, np.int64, np.float32):
        found = masks.read_mask(save(path, (LABELS > 0).astype(dtype)))
        np.testing.assert_array_equal(found.pixels, LABELS > 0)
    for dtype in (np.int64, np.uint64, np.int32):
        found = masks.read_mask(save(path, LABELS.astype(dtype)), foreground="auto")
        np.testing.assert_array_equal(found.labels, LABELS)
    assert masks.read_mask(path, foreground="70000").pixels.sum() == 21


def test_a_file_has_no_size_of_pixels_and_no_tags(path):
    save(path, PICTURE[..., 0])
    assert pixel_size.read(path) is None and writing.read_tags(path) == writing.NO_TAGS
    assert reading.count_pages(path) == 1


def test_files_of_cellpose_beside_images_are_no_images(tmp_path):
    for name in ("a.npy", "a_seg.npy", "B_SEG.NPY", "c.NPY"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in reading.list_images(tmp_path)] == ["a.npy", "c.NPY"]
    assert reading.ignored(tmp_path) == "2 .npy"


def raw(header, data=b"", version=(1, 0), length=None):
    """A file of any header; `length` is what it claims of it."""
    size = len(header) if length is None else length
    count = size.to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + count + header.encode() + data


def header(descr="'|u1'", shape="(2, 3)", fortran=False):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def pickled(values, **options):
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True, **options)
    return file.getvalue()


SIX = bytes(6)
HOSTILE = {
    "objects": (pickled(np.array([{"masks": 1}], object)), "holds Python objects; allowed are int"),
    "a cellpose dictionary": (pickled(np.array({"masks": 1}, object)), "holds Python objects"),
    "fields": (raw(header("[('a', '<f4')]", "(1, 1)"), bytes(4)), "allowed are integers, floats"),
    "text": (pickled(np.array([["a", "b"]])), "holds <U1 values"),
    "dates": (pickled(np.zeros((2, 3), "M8[s]")), "holds datetime64[s] values"),
    "complex numbers": (pickled(np.zeros((2, 3), complex)), "holds complex128 values"),
    "long doubles": (raw(header("'<f16'"), bytes(96)), "allowed are integers, floats"),
    "no such type": (raw(header("'<q9'"), SIX), "damaged header"),
    "a claim of 8 TB": (raw(header(shape="(1000000, 8000000)")), "is truncated: 0 bytes of an arr"),
    "sides beyond 64 bits": (raw(header(shape=f"({10**30}, 2)"), SIX), "is truncated: 6 bytes"),
    "negative sides": (raw(header(shape="(-2, -3)"), SIX), "shape (-2, -3); allowed are [H, W]"),
    "sides that are no numbers": (raw(header(shape="('a', 3)"), SIX), "damaged header"),
    "a side that is a truth value": (raw(header(shape="(True, 6)"), SIX), "the shape (True, 6)"),
    "one side": (raw(header(shape="(6,)"), SIX), "of the shape (6,); allowed are [H, W]"),
    "no side": (raw(header(shape="()"), b"1"), "of the shape ()"),
    "four sides": (raw(header(shape="(1, 1, 2, 3)"), SIX), "of the shape (1, 1, 2, 3)"),
    "no pixels": (raw(header(shape="(0, 3)")), "of the shape (0, 3)"),
    "channels first": (raw(header(shape="(3, 1, 2)"), SIX), "(3, 1, 2); channels come last; allo"),
    "two channels": (raw(header(shape="(3, 1, 2)"), SIX), "or a choice by config.reading.channels"),
    "a million channels": (
        raw(header(shape="(1, 1, 1000000)"), bytes(10**6)),
        "has 1000000 channels; allowed are 65536",
    ),
    "cut data": (raw(header(), SIX[:5]), "is truncated: 5 bytes of an array of 6"),
    "two arrays": (raw(header(), SIX + SIX), "more than"),
    "cut header": (raw(header())[:40], "damaged header"),
    "magic alone": (b"\x93NUMPY", "damaged header"),
    "no version": (raw(header(), SIX, version=(9, 0)), "version (9, 0) of the format"),
    "a header of 4 GB": (raw("{}", version=(2, 0), length=2**32 - 1), "header of 4294967295 bytes"),
    "a header of 60 kB": (raw("(" * 60_000), "header of 60000 bytes; allowed are 1024"),
    "a deep header": (raw("-" * 1000 + "1"), "damaged header"),
    "brackets": (raw("[" * 1000), "damaged header"),
    "code": (raw("__import__('os').abort()"), "damaged header"),
    "other keys": (raw("{'descr': '|u1'}"), "damaged header"),
    "control characters": (raw(header("'\x1b[2J'"), SIX), "damaged header"),
    "integers beyond 63 bits": (
        raw(header("'<u8'", "(1, 1)"), b"\xff" * 8),
        "holds integers up to 18446744073709551615",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_all_else_is_one_line_and_takes_no_memory(kind, path):
    content, words = HOSTILE[kind]
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(UserError) as caught:
        reading.read_image(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    line = str(caught.value)
    assert words in line and line.startswith(str(path)) and caught.value.code == BAD_DATA
    assert line.isprintable() and most < 4e6


def test_a_picture_beyond_the_limit_is_refused_before_its_data_are_read(path):
    save(path, np.zeros((300, 400), np.float64))
    with pytest.raises(UserError, match=r"has 300 x 400 pixels; at most config.reading.max_pixels"):
        reading.read_image(path, Limits(max_pixels=119_999))
    assert reading.read_size(path, Limits(max_pixels=1)) == (300, 400)
