"""Files with bytes flipped, cut out or swapped are read or refused in one line, whatever it is."""

import io
import time

import numpy as np
import pytest
import tifffile
from image_files import GREY, PALETTE, RGB, RGBA, chunk, exif, png, tiff
from image_rows import by_pillow, palette

from segdiff_jax import errors
from segdiff_jax.data.image_io import masks, reading, writing
from segdiff_jax.data.image_io.headers import Limits

RNG = np.random.default_rng(7)
PICTURE = RNG.integers(0, 256, (12, 15, 3)).astype(np.uint8)
DEEP = PICTURE.astype(np.uint16) * 16
LIMITS = Limits(max_pixels=100_000)


def by_tifffile(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


WHOLE = {
    "PNG": png(PICTURE, RGB, before=chunk(b"eXIf", exif(6))),
    "PNG of 16 bits": png(DEEP, RGB, 16),
    "PNG with alpha": png(np.dstack([PICTURE, PICTURE[..., :1] | 255]), RGBA),
    "PNG with a palette": png(PICTURE[..., 0] % 2, PALETTE, 1, palette((0,) * 3, (255,) * 3)),
    "grey PNG": png(PICTURE[..., 0], GREY),
    "JPEG": by_pillow(PICTURE, "JPEG", exif=b"Exif\0\0" + exif(3)),
    "progressive JPEG": by_pillow(PICTURE, "JPEG", progressive=True),
    "BMP": by_pillow(PICTURE, "BMP"),
    "BMP with a palette": by_pillow(PICTURE, "BMP", "P"),
    "BMP of 1 bit": by_pillow(PICTURE[..., 0], "BMP", "1"),
    "GIF": by_pillow(PICTURE, "GIF", "P"),
    "WebP": by_pillow(PICTURE, "WEBP", lossless=True),
    "lossy WebP": by_pillow(PICTURE, "WEBP"),
    "TIFF": tiff(PICTURE),
    "TIFF, big-endian": tiff(DEEP, order=">", compressed=True),
    "TIFF of floats": tiff((PICTURE / 255).astype(np.float32)),
    "TIFF with a predictor": by_tifffile(DEEP, photometric="rgb", compression="lzw", predictor=2),
    "TIFF of tiles": by_tifffile(PICTURE, photometric="rgb", tile=(16, 16), compression="zstd"),
    "TIFF of planes": by_tifffile(
        np.moveaxis(PICTURE, -1, 0), photometric="rgb", planarconfig="separate"
    ),
    "BigTIFF": by_tifffile(PICTURE, photometric="rgb", bigtiff=True),
    "TIFF of JPEG": by_pillow(PICTURE, "TIFF", compression="jpeg"),
    "TIFF of fax": by_pillow(PICTURE[..., 0] > 127, "TIFF", compression="group4"),
    "TIFF of PackBits": by_pillow(PICTURE, "TIFF", compression="packbits"),
    "ImageJ": by_tifffile(DEEP[..., 0][None].repeat(3, 0), imagej=True, metadata={"axes": "CYX"}),
    "OME": by_tifffile(np.moveaxis(DEEP, -1, 0), ome=True, metadata={"axes": "CYX"}),
    "several pages": by_tifffile(np.moveaxis(PICTURE, -1, 0), photometric="minisblack"),
}


def damaged(file, rng):
    """Returns a file with one kind of damage: bytes flipped, swapped, cut, doubled or zeroed."""
    data = bytearray(file)
    kind = rng.integers(6)
    if kind == 0:
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        return bytes(data[: rng.integers(0, len(data))])
    elif kind == 2:
        a, b = sorted(int(i) for i in rng.integers(0, len(data), 2))
        size = int(min(rng.integers(1, 33), b - a, len(data) - b))
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    elif kind == 3:
        begin, size = int(rng.integers(0, len(data))), int(rng.integers(1, 33))
        del data[begin : begin + size]
    elif kind == 4:
        begin, size = int(rng.integers(0, len(data))), int(rng.integers(1, 33))
        data[begin:begin] = data[begin : begin + size]
    else:  # in the header, where the lengths and offsets are
        for place in rng.integers(0, min(len(data), 200), rng.integers(1, 5)):
            data[place] = int(rng.integers(256))
    return bytes(data)


def read_all(path, count, seed):
    """Reads `count` damaged files as images and as masks; returns how many were refused."""
    rng, names, refused = np.random.default_rng(seed), list(WHOLE), 0
    for number in range(count):
        name = names[number % len(names)]
        content = damaged(WHOLE[name], rng)
        path.write_bytes(content)
        began = time.monotonic()
        try:
            image = reading.read_image(path, LIMITS)
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3
            assert image.size <= 3 * LIMITS.max_pixels
            if name.startswith("PNG") and content != WHOLE[name]:  # it has checksums
                expected = whole_picture(name, path)
                path.write_bytes(content)
                np.testing.assert_array_equal(image, expected)
        except errors.UserError as error:
            refused += 1
            message = str(error)
            assert error.code == errors.BAD_DATA and message.startswith(f"{path}: "), name
            assert "\n" not in message and len(message) < 700, (name, message)
        for also in (lambda: masks.read_mask(path, LIMITS, "auto"), lambda: tags_of(path)):
            try:
                also()
            except errors.UserError as error:
                assert "\n" not in str(error)
        assert time.monotonic() - began < 20, name
    return refused


def tags_of(path):
    reading.read_size(path, LIMITS)
    return writing.read_tags(path, LIMITS.page)


def whole_picture(name, path):
    path.write_bytes(WHOLE[name])
    return reading.read_image(path, LIMITS)


def test_whole_files_are_read(tmp_path):
    for name, content in WHOLE.items():
        path = tmp_path / "file"
        path.write_bytes(content)
        if name == "several pages":
            with pytest.raises(errors.UserError, match="has 3 pages"):
                reading.read_image(path, LIMITS)
        else:
            assert reading.read_image(path, LIMITS).shape[:2] in ((12, 15), (15, 12)), name


def test_four_hundred_damaged_files_are_read_or_refused_in_one_line(tmp_path, capfd):
    refused = read_all(tmp_path / "file", 400, seed=1)
    assert 150 < refused < 395
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err + captured.out
    print(f"400 damaged files: {refused} refused")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_a_thousand_damaged_files_are_read_or_refused_in_one_line(tmp_path, seed):
    refused = read_all(tmp_path / "file", 1000, seed)
    print(f"1000 damaged files: {refused} refused")


def test_a_folder_with_damaged_files_is_read_to_its_end(tmp_path):
    rng, problems, done = np.random.default_rng(0), [], []
    for number, (name, content) in enumerate(WHOLE.items()):
        (tmp_path / f"{number:02} {name}.png").write_bytes(
            damaged(content, rng) if number % 2 else content
        )
    for path in reading.list_images(tmp_path):
        try:
            done.append(reading.read(path, LIMITS))
        except errors.UserError as error:
            problems.append(str(error))
    assert len(done) + len(problems) == len(WHOLE) and len(done) >= len(WHOLE) // 2 - 1
