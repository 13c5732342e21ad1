"""The file of weights: what was written comes back, and whatever else is there is refused."""

import json
import os
import struct

import numpy as np
import pytest
from refusals import refused, truncated
from safetensors.numpy import load_file, save_file

from segdiff_jax.checkpoint import weights_file
from segdiff_jax.errors import BAD_CHECKPOINT

RNG = np.random.default_rng(0)
ARRAYS = {
    "unet/in/kernel": RNG.normal(size=(3, 3, 2, 4)).astype(np.float32),
    "unet/in/bias": RNG.normal(size=(4,)).astype(np.float32),
    "encoder/scale": np.array(0.5, np.float32),
}
SHAPES = {name: x.shape for name, x in ARRAYS.items()}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    weights_file.write(path, ARRAYS, 600)
    return path


def test_float32_comes_back_bit_for_bit_with_its_updates(file):
    step, found = weights_file.read(file, SHAPES)
    assert step == 600 and found.keys() == ARRAYS.keys()
    for name, x in ARRAYS.items():
        np.testing.assert_array_equal(found[name], x)
        assert found[name].dtype == np.float32


def test_the_library_reads_the_file_by_the_same_names(file):
    found = load_file(file)
    assert found.keys() == ARRAYS.keys()
    np.testing.assert_array_equal(found["unet/in/kernel"], ARRAYS["unet/in/kernel"])


def test_float16_is_rounded_to_nearest_and_half_as_large(file, tmp_path):
    small = tmp_path / "half.safetensors"
    weights_file.write(small, ARRAYS, 600, "float16")
    _, found = weights_file.read(small, SHAPES)
    for name, x in ARRAYS.items():
        np.testing.assert_array_equal(found[name], x.astype(np.float16).astype(np.float32))
    assert all(x.dtype == np.float16 for x in load_file(small).values())


@pytest.mark.parametrize(
    ("value", "dtype"), [(1e5, "float16"), (np.nan, "float32"), (np.inf, "float32")]
)
def test_a_value_that_the_type_does_not_have_is_not_written(value, dtype, tmp_path):
    arrays = ARRAYS | {"unet/in/bias": np.full(4, value, np.float32)}
    error = refused(weights_file.write, tmp_path / "w", arrays, 1, dtype)
    assert "unet/in/bias" in str(error) and not list(tmp_path.iterdir())


def changed(name, x):
    return lambda path: save_file(ARRAYS | {name: x}, path)


def without(name):
    return lambda path: save_file({k: v for k, v in ARRAYS.items() if k != name}, path)


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x10
    path.write_bytes(data)


def header(text, data=b""):
    return lambda path: path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def updates(text):
    return lambda path: save_file(ARRAYS, path, {"updates": text})


DAMAGES = {
    "cut": (truncated, "is damaged"),
    "empty": (lambda path: path.write_bytes(b""), "no header of a safetensors file"),
    "flipped": (flipped, "its values are not what was written"),
    "no json": (header(b"{" * 40), "is damaged"),
    "endless": (lambda path: path.write_bytes(b"\xff" * 64), "no header of a safetensors file"),
    "beyond": (
        header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
        "is damaged",
    ),
    "larger": (lambda path: os.truncate(path, 10**8), "has 100 MB; at most"),
    "missing": (lambda path: path.unlink(), "no such file"),
    "pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "neither a file nor a folder"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "neither a file nor a folder"),
    "lacks": (without("unet/in/bias"), "lacks unet/in/bias"),
    "besides": (changed("x\x1b[2J", np.ones(2, np.float32)), "besides"),
    "shape": (changed("unet/in/bias", np.ones(5, np.float32)), "unet/in/bias is [5], not [4]"),
    "type": (changed("unet/in/bias", np.ones(4)), "unet/in/bias is of type F64, not F16 or F32"),
    "nan": (changed("unet/in/bias", np.full(4, np.nan, np.float32)), "is not finite"),
    "updates": (updates("-1"), "'-1' updates"),
    "many": (updates("9" * 40), "updates"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_takes_one_line_that_names_the_file_and_exit_code_66(name, file):
    damage, what = DAMAGES[name]
    damage(file)
    error = refused(weights_file.read, file, SHAPES)
    assert what in str(error) and str(file) in str(error) and error.code == BAD_CHECKPOINT


def test_another_network_is_described_in_one_short_line(file):
    others = {f"other/{i}": (7,) for i in range(500)}
    error = refused(weights_file.read, file, others)
    assert "lacks other/0, other/1, other/10 and 497 more" in str(error)
    assert "has encoder/scale, unet/in/bias, unet/in/kernel besides" in str(error)
    assert len(str(error)) < 500


def test_a_file_without_a_checksum_is_read_with_a_warning(file, caplog):
    save_file(ARRAYS, file)
    assert weights_file.read(file, SHAPES)[0] == 0
    assert "without a checksum" in caplog.text


def test_the_header_says_what_the_file_is(file):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    about = json.loads(data[8 : 8 + length])["__metadata__"]
    assert about.keys() == {"format", "segdiff_jax", "updates", "crc32"}
