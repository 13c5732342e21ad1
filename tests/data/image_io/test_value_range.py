"""Which values are black and white: the truth is a picture of 8 bits, in other containers."""

import numpy as np
import pytest
import tifffile
from image_files import GREY, RGB, png, tiff
from image_rows import refusal

from segdiff_jax.data.image_io import reading
from segdiff_jax.data.image_io.headers import Limits

GENERATOR = np.random.default_rng(5)
COARSE = GENERATOR.integers(20, 236, (8, 8, 3))
PICTURE = np.kron(COARSE, np.ones((8, 8, 1), int)).astype(np.uint8)  # [64, 64, 3]
CONTAINERS = {  # what becomes of values of 0..255
    "16 bits": lambda v: np.uint16(v) * 257,
    "12 bits in 16": lambda v: np.rint(v / 255 * 4095).astype(np.uint16),
    "12 bits in 16, shifted": lambda v: np.uint16(v) * 16,
    "10 bits in 16": lambda v: np.rint(v / 255 * 1023).astype(np.uint16),
    "14 bits in 16": lambda v: np.rint(v / 255 * 16383).astype(np.uint16),
    "8 bits in 16": np.uint16,
    "8 bits in 16 with a sign": np.int16,
    "12 bits in 32": lambda v: np.rint(v / 255 * 4095).astype(np.uint32),
    "12 bits in 16 with a sign": lambda v: np.rint(v / 255 * 4095).astype(np.int16),
    "floats of 0..1": lambda v: (v / 255).astype(np.float32),
    "floats of -1..1": lambda v: (v / 127.5 - 1).astype(np.float32),
    "floats of 0..255": np.float32,
    "half floats": lambda v: (v / 255).astype(np.float16),
    "doubles of 12 bits": lambda v: v / 255 * 4095,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


@pytest.mark.parametrize("name", CONTAINERS)
def test_one_picture_is_read_alike_from_every_container(path, name):
    for picture in (PICTURE, PICTURE[..., 0]):
        path.write_bytes(tiff(CONTAINERS[name](picture)))
        image, note = reading.read(path)
        expected = picture.astype(int).reshape(64, 64, -1)
        assert np.abs(image - expected).max() <= 1
        assert str(CONTAINERS[name](picture).dtype) in note


def test_hot_and_dead_pixels_change_nothing(path):
    values = CONTAINERS["12 bits in 16"](PICTURE)
    values[3, 4], values[10, 9] = 65535, 0  # 6 of 12288 values
    path.write_bytes(tiff(values))
    image, note = reading.read(path)
    same = np.ones((64, 64), bool)
    same[3, 4] = same[10, 9] = False
    assert np.abs(image.astype(int) - PICTURE)[same].max() <= 1
    assert "uint16 0..65535: 0..4095, usual for its values, 0.02% clipped" in note
    assert image[3, 4].min() == 255


def test_8_bits_are_never_touched(path):
    for setting in ("auto", "full", "10,20"):
        for picture in (PICTURE // 16, PICTURE):
            path.write_bytes(png(picture, RGB))
            image, note = reading.read(path, Limits(value_range=setting))
            np.testing.assert_array_equal(image, picture)
            assert note == ""


@pytest.mark.parametrize(
    "low, high, dtype",
    [(500, 600, np.uint16), (20_000, 22_000, np.uint16), (-1000, 3000, np.int16)]
    + [(0.01, 0.09, np.float32), (270.0, 310.0, np.float32), (-40, 5, np.float64)],
)
def test_what_fills_no_usual_range_is_stretched_between_its_percentiles(path, low, high, dtype):
    values = (
        np.rint(np.linspace(low, high, 64 * 64))
        if np.dtype(dtype).kind in "ui"
        else (np.linspace(low, high, 64 * 64))
    )
    values = values.astype(dtype).reshape(64, 64)
    path.write_bytes(tiff(values))
    image, note = reading.read(path)
    expected = (values.astype(float) - low) * 255 / (high - low)
    # 0.1 % at each end are cut: the scale is 0.2 % steeper; rounding of the values and the result
    step = 255 / (high - low) if np.dtype(dtype).kind in "ui" else 0
    assert np.abs(image[..., 0] - expected).max() <= 0.5 + 0.003 * 255 + step
    assert "its percentiles" in note


def test_the_file_itself_may_declare_its_range(path):
    dim = (PICTURE // 4).astype(np.uint16)  # of 10 bits or of 12, that only the file can say
    for bits in (10, 12):
        metadata = {"axes": "YXS", "SignificantBits": bits}
        tifffile.imwrite(
            path, dim * 2 ** (bits - 8), ome=True, photometric="rgb", metadata=metadata
        )
        image, note = reading.read(path)
        assert np.abs(image.astype(int) - dim).max() <= 1
        assert "declared by the file" in note
    for tags in ([(281, 4095)], [(280, 0), (281, 4095)], [(341, 4095), (340, 0)]):
        path.write_bytes(tiff(dim[..., 0] * 16, tags=tags))
        image, note = reading.read(path)
        assert np.abs(image[..., 0].astype(int) - dim[..., 0]).max() <= 1
        assert "0..4095, declared by the file" in note
    path.write_bytes(tiff(dim[..., 0] * 16 + 1000, tags=[(280, 1000), (281, 5095)]))
    assert np.abs(reading.read_image(path)[..., 0].astype(int) - dim[..., 0]).max() <= 1


def test_a_declaration_that_says_nothing_or_contradicts_the_values_does_not_count(path):
    values = CONTAINERS["12 bits in 16"](PICTURE[..., 0])
    for tags in ([(281, 65535)], [(280, 0), (281, 65535)], [(281, 255)], [(280, 9), (281, 3)]):
        path.write_bytes(tiff(values, tags=tags))
        image, note = reading.read(path)
        assert np.abs(image[..., 0].astype(int) - PICTURE[..., 0]).max() <= 1, tags
        assert "usual for its values" in note


def test_packed_bits_declare_themselves(path):
    for bits in (10, 12, 14):
        values = (np.arange(64, dtype=np.uint16).reshape(8, 8)) * 8  # dark: at most 504
        rows = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(8, 8, 2), axis=-1)
        packed = np.packbits(rows[..., 16 - bits :].reshape(8, -1), axis=-1)
        path.write_bytes(tiff(packed, tags=[(256, 8), (258, bits)]))
        image, note = reading.read(path)
        expected = np.rint(values * 255.0 / (2**bits - 1))
        np.testing.assert_array_equal(image[..., 0], expected)
        assert f"0..{2**bits - 1}, declared by the file" in note


def test_a_range_may_be_asked_for(path):
    values = CONTAINERS["12 bits in 16"](PICTURE)
    path.write_bytes(tiff(values))
    image, note = reading.read(path, Limits(value_range="full"))
    np.testing.assert_array_equal(image, np.rint(values / 257))
    assert "it is dark: config.reading.value_range=auto would brighten it" in note
    image, note = reading.read(path, Limits(value_range="1000,3000"))
    np.testing.assert_array_equal(image, np.rint(np.clip((values - 1000.0) * 255 / 2000, 0, 255)))
    assert "1000..3000, as given" in note and "clipped" in note
    path.write_bytes(tiff(np.array([[-32768, 32767, 0]], np.int16)))
    image, note = reading.read(path, Limits(value_range="full"))
    np.testing.assert_array_equal(image[..., 0], [[0, 255, 128]])


def test_all_16_bits_are_divided_by_257_and_rounded(path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path.write_bytes(png(values, GREY, 16))
    for setting in ("auto", "full"):
        image = reading.read_image(path, Limits(value_range=setting))
        np.testing.assert_array_equal(image[..., 0], (values.astype(int) + 128) // 257)


def test_pixels_without_data_neither_count_nor_shine(path):
    values = CONTAINERS["12 bits in 16"](PICTURE[..., 0])
    values[:, :20] = 65535
    expected = np.where(values == 65535, 0, PICTURE[..., 0].astype(int))
    tifffile.imwrite(path, values, extratags=[(42113, 2, 6, "65535", True)])
    image, note = reading.read(path)
    assert np.abs(image[..., 0] - expected).max() <= 1 and "0..4095" in note
    floats = (PICTURE[..., 0] / 255).astype(np.float32)
    floats[:, :20] = np.nan
    tifffile.imwrite(path, floats, extratags=[(42113, 2, 4, "nan", True)])
    image, note = reading.read(path)
    assert np.abs(image[..., 0] - expected).max() <= 1
    floats[:, :20] = -9999
    tifffile.imwrite(path, floats, extratags=[(42113, 2, 6, "-9999", True)])
    assert np.abs(reading.read_image(path)[..., 0] - expected).max() <= 1


def test_one_value_alone_is_read(path):
    for value, shown in ((0, 0), (4095, 255), (255, 255), (100, 100)):
        path.write_bytes(tiff(np.full((5, 5), value, np.uint16)))
        assert reading.read_image(path).tolist() == np.full((5, 5, 3), shown).tolist()
    path.write_bytes(tiff(np.full((5, 5), -7.5, np.float32)))
    assert reading.read_image(path).max() == 0


def test_floats_that_are_no_numbers_are_refused(path):
    for bad in (np.nan, np.inf, -np.inf):
        values = np.full((3, 3), 0.5, np.float32)
        values[1, 1] = bad
        path.write_bytes(tiff(values))
        assert "1 of 9 values are NaN or infinite" in refusal(reading.read_image, path)


def test_16_bits_with_0_for_white_are_turned_after_they_are_scaled(path):
    values = CONTAINERS["12 bits in 16"](255 - PICTURE[..., 0].astype(int))
    path.write_bytes(tiff(values, photometric=0))
    assert np.abs(reading.read_image(path)[..., 0].astype(int) - PICTURE[..., 0]).max() <= 1
