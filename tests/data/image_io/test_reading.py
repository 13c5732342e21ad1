"""Files are read as they are meant or refused in one line; the expected values are by hand."""

import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, chunk, exif, png, tiff
from image_rows import by_pillow, colour, grey, palette, refusal
from PIL import Image
from tiny_config import ROOT

from segdiff_jax import errors
from segdiff_jax.data.image_io import masks, reading
from segdiff_jax.data.image_io.headers import Limits

# 128 / 257 = 0.498, 129 / 257 = 0.502; 32768 / 257 = 127.502; 65406 / 257 = 254.498
DEEP = (0, 128, 129, 257, 32768, 65406, 65407, 65535)
SHALLOW = (0, 0, 1, 1, 128, 254, 255, 255)
DEEP_RGB = [(0, 128, 129), (257, 32768, 65406), (65407, 65535, 300)]
SHALLOW_RGB = [(0, 0, 1), (1, 128, 254), (255, 255, 1)]
OPAQUE = [(*pixel, 65535) for pixel in DEEP_RGB]
CMYK = colour((0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255))
CMYK_SEEN = [(255, 255, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0)]
deep_grey, deep_rgb = grey(*DEEP, dtype=np.uint16), colour(*DEEP_RGB, dtype=np.uint16)


def apart(array, planes=3):
    """A TIFF of an array [1, W, 3], channel after channel, each a strip."""
    width, size = array.shape[1], array.shape[1] * array.itemsize
    tags = [(256, width), (257, 1), (258, (8 * array.itemsize,) * 3), (262, 2), (277, 3), (284, 2)]
    strips = [(273, tuple(8 + size * i for i in range(planes))), (279, (size,) * planes)]
    rows = np.ascontiguousarray(np.moveaxis(array[0], -1, 0))
    return tiff(rows[:planes], tags=[*tags, *strips, (278, 1), (339, (1,) * 3)])


IMAGES = {  # name: (file, what it shows: grey values or colours of one row)
    "8-bit grey": (png(grey(0, 7, 255), GREY), (0, 7, 255)),
    "1 bit": (png(grey(0, 1, 1), GREY, 1), (0, 255, 255)),
    "2 bits": (png(grey(0, 1, 2, 3), GREY, 2), (0, 85, 170, 255)),
    "4 bits": (png(grey(0, 1, 15), GREY, 4), (0, 17, 255)),
    "RGB": (png(colour((1, 2, 3), (4, 5, 6)), RGB), [(1, 2, 3), (4, 5, 6)]),
    "palette": (
        png(grey(1, 0, 1), PALETTE, before=palette((9, 8, 7), (1, 2, 3))),
        [(1, 2, 3), (9, 8, 7), (1, 2, 3)],
    ),
    "opaque palette": (
        png(grey(1, 0), PALETTE, 1, palette((9, 8, 7), (1, 2, 3)) + chunk(b"tRNS", b"\xff\xff")),
        [(1, 2, 3), (9, 8, 7)],
    ),
    "unused transparent colour of a palette": (
        png(grey(1, 1), PALETTE, before=palette((9, 8, 7), (1, 2, 3)) + chunk(b"tRNS", b"\0\xff")),
        [(1, 2, 3), (1, 2, 3)],
    ),
    "opaque grey with alpha": (png(colour((3, 255), (200, 255)), GREY_ALPHA), (3, 200)),
    "opaque RGBA": (png(colour((1, 2, 3, 255)), RGBA), [(1, 2, 3)]),
    "CMYK TIFF": (tiff(CMYK, photometric=5), CMYK_SEEN),
    "TIFF with 0 for white": (tiff(grey(0, 255, 5), photometric=0), (255, 0, 250)),
    "16-bit TIFF with 0 for white": (tiff(~deep_grey, photometric=0), SHALLOW),
    "8-bit TIFF, channel after channel": (
        apart(colour((1, 2, 3), (4, 5, 6))),
        [(1, 2, 3), (4, 5, 6)],
    ),
    "16-bit TIFF, channel after channel": (apart(deep_rgb), SHALLOW_RGB),
    "1-bit palette TIFF": (
        tiff(grey(0b10100000), photometric=3, tags=[(256, 3), (258, 1), (320, (0, 257 * 9) * 3)]),
        (9, 0, 9),
    ),
    "4-bit grey TIFF": (tiff(grey(0x0F, 0x10), tags=[(256, 3), (258, 4)]), (0, 255, 17)),
    "grey TIFF with opaque alpha": (
        tiff(colour((3, 255), (200, 255)), photometric=1, tags=[(338, 1)]),
        (3, 200),
    ),
    "RGBA TIFF": (tiff(colour((1, 2, 3, 255)), photometric=2, tags=[(338, 2)]), [(1, 2, 3)]),
    "16-bit grey PNG": (png(deep_grey, GREY, 16), SHALLOW),
    "16-bit grey TIFF": (tiff(deep_grey), SHALLOW),
    "16-bit grey TIFF, big-endian": (tiff(deep_grey, order=">"), SHALLOW),
    "16-bit grey TIFF, compressed": (tiff(deep_grey, compressed=True), SHALLOW),
    "16-bit RGB PNG": (png(deep_rgb, RGB, 16), SHALLOW_RGB),
    "16-bit RGBA PNG": (png(colour(*OPAQUE, dtype=np.uint16), RGBA, 16), SHALLOW_RGB),
    "16-bit grey PNG with alpha": (
        png(np.stack([deep_grey, np.full_like(deep_grey, 65535)], -1), GREY_ALPHA, 16),
        SHALLOW,
    ),
    "16-bit RGB TIFF": (tiff(deep_rgb), SHALLOW_RGB),
    "16-bit RGB TIFF, big-endian": (tiff(deep_rgb, order=">"), SHALLOW_RGB),
    "16-bit RGB TIFF, compressed": (tiff(deep_rgb, compressed=True), SHALLOW_RGB),
    "16-bit CMYK TIFF": (tiff(CMYK.astype(np.uint16) * 257, photometric=5), CMYK_SEEN),
    "palette TIFF": (
        tiff(grey(2, 0), photometric=3, tags=[(320, tuple(257 * (i % 256) for i in range(768)))]),
        (2, 0),
    ),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def shown(pixels):
    return np.array([[p if isinstance(p, tuple) else (p, p, p) for p in pixels]], np.uint8)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_shows_what_its_file_holds(path, name):
    file, pixels = IMAGES[name]
    path.write_bytes(file)
    image = reading.read_image(path)
    assert image.dtype == np.uint8 and image.flags.writeable
    np.testing.assert_array_equal(image, shown(pixels))
    assert reading.read_size(path) == image.shape[:2]


def test_a_jpeg_shows_about_what_was_saved(path):
    flat = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    path.write_bytes(by_pillow(flat, "JPEG"))
    assert np.abs(reading.read_image(path).astype(int) - flat).max() <= 3
    path.write_bytes(by_pillow(flat[..., 0], "JPEG"))
    assert np.abs(reading.read_image(path).astype(int) - 200).max() <= 3
    path.write_bytes(by_pillow(np.full((16, 16, 3), (0, 255, 255), np.uint8), "JPEG", "CMYK"))
    assert np.abs(reading.read_image(path).astype(int) - (0, 255, 255)).max() <= 3


def test_floats_are_read_within_the_range_that_is_given(path):
    path.write_bytes(tiff(grey(-1, 0, 1, 3, dtype=np.float32)))
    image = reading.read_image(path, Limits(float_range=(-1, 3)))
    # 255 / 4 = 63.75
    np.testing.assert_array_equal(image, shown((0, 64, 128, 255)))
    for order, compressed, dtype in ((">", False, "f4"), (">", True, "f4"), ("<", False, "f8")):
        path.write_bytes(tiff(grey(-1, 0, 1, 3, dtype=dtype), order=order, compressed=compressed))
        np.testing.assert_array_equal(image, reading.read_image(path, Limits(float_range=(-1, 3))))


@pytest.mark.parametrize("form", ["BMP", "GIF", "WEBP"])
def test_bmp_gif_and_lossless_webp_hold_their_pixels(path, form):
    options = {"lossless": True} if form == "WEBP" else {}
    for mode in ("RGB", "L", "1", "P"):
        image = Image.fromarray(NOISE).convert("RGB").quantize(200)
        image = image if mode == "P" else image.convert(mode)
        image = image.quantize() if mode == "RGB" and form == "GIF" else image  # has a palette
        image.save(path, form, **options)
        np.testing.assert_array_equal(reading.read_image(path), np.asarray(image.convert("RGB")))
        assert reading.read_size(path) == (20, 20)
        assert not reading.decode(path).lossy
    Image.fromarray(NOISE).save(path, "WEBP", quality=50)
    assert reading.decode(path).lossy


def test_chosen_channels_become_the_colours(path):
    for file in (png(NOISE, RGB), tiff(NOISE), by_pillow(NOISE, "BMP")):
        path.write_bytes(file)
        image = reading.read_image(path, Limits(channels=(2, 0, 1)))
        np.testing.assert_array_equal(image, NOISE[..., [2, 0, 1]])
        image = reading.read_image(path, Limits(channels=(1,)))
        np.testing.assert_array_equal(image, NOISE[..., [1, 1, 1]])
        words = "has 3 channels, numbered from 0; config.reading.channels=3 are not all there"
        assert words in refusal(reading.read_image, path, Limits(channels=(3,)))
    transparent = np.dstack([NOISE, NOISE[..., 0]])
    path.write_bytes(png(transparent, RGBA))
    image = reading.read_image(path, Limits(channels=(0, 1, 2)))
    np.testing.assert_array_equal(image, NOISE)


@pytest.mark.parametrize(
    "compression",
    ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma"],
)
def test_a_compressed_tiff_of_libtiff_holds_its_pixels(path, compression):
    for array in (NOISE, NOISE[..., 0], NOISE[..., 0].astype(np.uint16) * 200):
        path.write_bytes(by_pillow(array, "TIFF", compression=compression))
        image = reading.read_image(path)
        expected = np.round(array / 257) if array.dtype == np.uint16 else array
        np.testing.assert_array_equal(image, expected.reshape(20, 20, -1) + np.zeros(3))


def test_a_tiff_of_zstandard_and_of_float_predictor_holds_its_pixels(path):
    tifffile.imwrite(path, NOISE, photometric="rgb", compression="zstd", predictor=True)
    np.testing.assert_array_equal(reading.read_image(path), NOISE)
    tifffile.imwrite(path, NOISE[..., 0].astype(np.float32), compression="lzw", predictor=3)
    image = reading.read_image(path, Limits(float_range=(0, 255)))
    np.testing.assert_array_equal(image[..., 0], NOISE[..., 0])


def test_a_jpeg_in_a_tiff_shows_about_what_was_saved(path):
    flat = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    for array in (flat, flat[..., 0]):
        path.write_bytes(by_pillow(array, "TIFF", compression="jpeg", quality=95))
        shown = reading.read_image(path).astype(int)
        assert np.abs(shown - array.reshape(16, 24, -1)).max() <= 3
        with pytest.raises(errors.UserError, match="JPEG is lossy"):
            masks.read_mask(path)


def test_a_tiled_tiff_holds_its_pixels(path):
    array = np.arange(20 * 40, dtype=np.uint16).reshape(20, 40) * 80
    padded = np.pad(array, ((0, 12), (0, 8)), mode="edge")
    tiles = [padded[y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16, 32)]
    data = np.concatenate(tiles)
    size = 2 * 256
    place = [(322, 16), (323, 16), (325, (size,) * 6), (324, tuple(8 + size * i for i in range(6)))]
    path.write_bytes(tiff(data, tags=[(256, 40), (257, 20), *place]))
    np.testing.assert_array_equal(reading.read_image(path)[..., 0], np.round(array / 257))


@pytest.mark.parametrize("page", [0, 1, 2])
def test_of_several_pages_the_chosen_one_is_read(path, page):
    pages = [grey(1), grey(2, 3), np.array([[4], [5]], np.uint8)]
    path.write_bytes(tiff(*pages))
    image = reading.read_image(path, Limits(page=page))
    np.testing.assert_array_equal(image[..., 0], pages[page])
    assert reading.read_size(path, Limits(page=page)) == pages[page].shape


STORED = np.arange(6, dtype=np.uint16).reshape(2, 3) * 9000
UPRIGHT = {  # by the table of the EXIF standard: where row 0 and column 0 of the stored image lie
    1: STORED,  # top, left
    2: STORED[:, ::-1],  # top, right
    3: STORED[::-1, ::-1],  # bottom, right
    4: STORED[::-1],  # bottom, left
    5: STORED.T,  # left, top
    6: STORED.T[:, ::-1],  # right, top
    7: STORED.T[::-1, ::-1],  # right, bottom
    8: STORED.T[::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_and_masks_are_turned_as_their_exif_says(path, orientation):
    eight = (STORED // 257).astype(np.uint8)
    thrice = np.stack([STORED] * 3, -1)
    note = chunk(b"eXIf", exif(orientation))
    tag = [(274, orientation)]
    upright = np.round(UPRIGHT[orientation] / 257)
    for file in (
        png(STORED, GREY, 16, before=note),
        png(STORED, GREY, 16, after=note),
        png(thrice, RGB, 16, before=note),
        png(thrice, RGB, 16, after=note),
        tiff(STORED, tags=tag),
        tiff(thrice, tags=tag),
        tiff(thrice, tags=tag, compressed=True),
        tiff(STORED, tags=tag, order=">"),
    ):
        path.write_bytes(file)
        image = reading.read_image(path)
        np.testing.assert_array_equal(image, np.stack([upright] * 3, -1))
        assert reading.read_size(path) == upright.shape
    path.write_bytes(png((eight > 99).astype(np.uint8), GREY, before=note))
    np.testing.assert_array_equal(masks.read_mask(path).pixels, UPRIGHT[orientation] > 99 * 257)
    photo = np.kron(eight, np.ones((16, 16), np.uint8))
    path.write_bytes(by_pillow(photo, "JPEG", exif=b"Exif\0\0" + exif(orientation), quality=100))
    image = reading.read_image(path)[8::16, 8::16, 0].astype(int)
    assert np.abs(image - UPRIGHT[orientation] // 257).max() <= 3
    assert reading.read_size(path) == (16 * image.shape[0], 16 * image.shape[1])


@pytest.mark.parametrize(
    "name", ["MIXED.PNG", "a.b.c.Tif", "zellen nr 1.jpeg", "细胞-é.JPG", "x.tiff", "-x.png"]
)
def test_any_name_of_an_image_works_and_its_content_decides(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(png(grey(7), GREY))
    assert reading.list_images(tmp_path) == [path]
    np.testing.assert_array_equal(reading.read_image(path), shown((7,)))


def test_a_folder_is_listed_by_name_without_what_is_hidden(tmp_path):
    for name in (".a.png", "._b.tif", "Thumbs.db", "notes.txt", "png", ".DS_Store"):
        (tmp_path / name).write_text("")
    (tmp_path / "__MACOSX").mkdir()
    for name in ("b.PNG", "a.jpeg", "C.tif"):
        (tmp_path / name).write_text("")
    (tmp_path / "d.png").mkdir()
    names = [path.name for path in reading.list_images(tmp_path)]
    assert names == ["C.tif", "a.jpeg", "b.PNG", "d.png"]
    assert reading.ignored(tmp_path) == "3 hidden, 1 .db, 1 .txt, 1 without suffix"
    with pytest.raises(errors.UserError, match="none: cannot be listed .No such file"):
        reading.list_images(tmp_path / "none")


NOISE = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
NAN = grey(0, np.nan, 1, 1, dtype=np.float32)
FLOATS = grey(0.25, 0.5, dtype=np.float32)


def halved(file):
    return file[: len(file) // 2]


def looped(file):
    """A little-endian TIFF of two pages, the second linked back to the first."""
    (first,) = struct.unpack_from("<I", file, 4)
    link = len(file) - 4
    return file[:link] + struct.pack("<I", first)


def tiff_of(jpeg, height, width):
    """A TIFF whose one strip is a JPEG file."""
    tags = [(256, width), (257, height), (258, (8,) * 3), (259, 7), (262, 6), (277, 3)]
    tags += [(278, height), (339, (1,) * 3)]
    return tiff(np.frombuffer(jpeg, np.uint8)[None], tags=tags)


def flipped(file):
    damaged = bytearray(file)
    damaged[len(file) // 2] ^= 16
    return bytes(damaged)


REFUSED = {  # name: (file, limits, words of the message)
    "zero bytes": (b"", Limits(), "is empty (0 bytes); allowed are whole PNG, JPEG, TIFF"),
    "HTML": (b"<!DOCTYPE html><html>", Limits(), "begins with b'<!DOCTYP'"),
    "cut GIF": (by_pillow(NOISE[..., 0], "GIF")[:-9], Limits(), "is a truncated GIF file"),
    "cut WebP": (
        by_pillow(NOISE, "WEBP", lossless=True)[:-9],
        Limits(),
        "is a truncated WebP file",
    ),
    "cut BMP": (by_pillow(NOISE, "BMP")[:-9], Limits(), "is a BMP file that cannot be decoded"),
    "animated GIF": (
        by_pillow(NOISE[..., 0], "GIF", save_all=True, append_images=[Image.new("L", (20, 20))]),
        Limits(),
        "is an animation",
    ),
    "animated WebP": (
        by_pillow(NOISE, "WEBP", save_all=True, append_images=[Image.new("RGB", (20, 20))]),
        Limits(),
        "is an animation",
    ),
    "cut PNG": (halved(png(NOISE, RGB)), Limits(), "cannot be decoded"),
    "cut JPEG": (halved(by_pillow(NOISE, "JPEG")), Limits(), "cannot be decoded"),
    "cut TIFF": (by_pillow(NOISE, "TIFF")[:-9], Limits(), "truncated"),
    "cut compressed TIFF": (
        halved(by_pillow(NOISE, "TIFF", compression="tiff_lzw")),
        Limits(),
        "cannot be decoded",
    ),
    "PNG with a flipped bit": (flipped(png(NOISE, RGB)), Limits(), "broken PNG file"),
    "PNG without an end": (png(NOISE, RGB)[:-12], Limits(), "truncated PNG"),
    "TIFF that lacks a strip": (
        tiff(NOISE, tags=[(278, 10)]),
        Limits(),
        "lacks a part of its pixels",
    ),
    "floats out of range": (
        tiff(FLOATS),
        Limits(float_range=(0, 0.4)),
        "holds floats from 0.25 to 0.5; config.reading.float_range allows 0 to 0.4",
    ),
    "NaN": (tiff(NAN), Limits(float_range=(0, 1)), "1 of 4 values are NaN or infinite"),
    "infinity": (
        tiff(grey(0, -np.inf, dtype=np.float32)),
        Limits(float_range=(0, 1)),
        "1 of 2 values are NaN or infinite",
    ),
    "channels apart, of which one is missing": (
        apart(deep_rgb, planes=2),
        Limits(),
        "lacks a part of its pixels",
    ),
    "a fourth channel": (
        tiff(colour((1, 2, 3, 4)), photometric=2, tags=[(338, 0)]),
        Limits(),
        "has 4 channels of uint8, declared as RGB; config.reading.channels chooses",
    ),
    "five channels": (
        tiff(np.zeros((2, 2, 5), np.uint8)),
        Limits(),
        "has 5 channels of uint8, declared as grey; config.reading.channels chooses",
    ),
    "complex numbers": (
        tiff(grey(0, 0), tags=[(256, 1), (258, 64), (339, 6)]),
        Limits(),
        "holds complex numbers",
    ),
    "Lab": (
        tiff(colour((1, 2, 3)), photometric=8),
        Limits(),
        "has the colours CIELAB; allowed are grey, RGB",
    ),
    "two pages": (tiff(grey(1), grey(2)), Limits(), "has 2 pages; config.reading.page chooses one"),
    "no such page": (
        tiff(grey(1), grey(2)),
        Limits(page=2),
        "has 2 pages, so config.reading.page=2 is not there; at most 1",
    ),
    "animation": (
        by_pillow(NOISE, "PNG", save_all=True, append_images=[Image.fromarray(NOISE[::-1])]),
        Limits(),
        "is an animation",
    ),
    "RGBA": (
        png(colour((1, 2, 3, 255), (1, 2, 3, 254)), RGBA),
        Limits(),
        "1 of 2 pixels are transparent; allowed is full opacity",
    ),
    "16-bit RGBA": (
        png(colour((1, 2, 3, 65534), dtype=np.uint16), RGBA, 16),
        Limits(),
        "1 of 1 pixels are transparent",
    ),
    "grey with alpha": (
        png(colour((3, 255), (3, 0)), GREY_ALPHA),
        Limits(),
        "1 of 2 pixels are transparent",
    ),
    "16-bit grey with alpha": (
        png(colour((3, 65535), (3, 65279), dtype=np.uint16), GREY_ALPHA, 16),
        Limits(),
        "1 of 2 pixels are transparent",
    ),
    "palette with a transparent colour": (
        png(grey(0, 1), PALETTE, before=palette((1, 1, 1), (2, 2, 2)) + chunk(b"tRNS", b"\0")),
        Limits(),
        "1 of 2 pixels are transparent",
    ),
    "grey with a transparent value": (
        png(grey(0, 1), GREY, before=chunk(b"tRNS", b"\0\1")),
        Limits(),
        "makes the colour 1 transparent",
    ),
    "too many pixels": (
        png(np.zeros((3, 4), np.uint8), GREY),
        Limits(max_pixels=11),
        "has 3 x 4 pixels; at most config.reading.max_pixels=11 are decoded: raise that if",
    ),
    "a TIFF tile of too many pixels": (
        tiff(grey(1), tags=[(322, 60000), (323, 60000), (324, 8), (325, 1)]),
        Limits(),
        "has 60000 x 60000 pixels in a tile; at most config.reading.max_pixels",
    ),
    "a TIFF page that links back": (
        looped(tiff(grey(1), grey(2))),
        Limits(page=0),
        "has a page that links back to one before it",
    ),
    "a JPEG larger than its place in a TIFF": (
        tiff_of(by_pillow(NOISE, "JPEG"), 19, 20),
        Limits(),
        "has a JPEG part of 20 x 20 pixels, larger than its place of 19 x 20",
    ),
    "cut JPEG in a TIFF": (
        tiff_of(halved(by_pillow(NOISE, "JPEG")), 20, 20),
        Limits(),
        "cannot be decoded",
    ),
    "TIFF of a compression that is not allowed": (
        tiff(grey(1), tags=[(259, 34712)]),
        Limits(),
        "has the compression JPEG2000; allowed are none, LZW",
    ),
    "TIFF with a tag of no known type": (
        tiff(grey(1)).replace(struct.pack("<HHI", 339, 3, 1), struct.pack("<HHI", 339, 99, 1)),
        Limits(),
        "has 1 damaged tags",
    ),
    "index without a colour": (
        png(grey(0, 2), PALETTE, before=palette((1, 1, 1), (2, 2, 2))),
        Limits(),
        "uses the palette index 2, but has 2 colours",
    ),
    "damaged EXIF": (
        by_pillow(NOISE, "JPEG", exif=b"Exif\0\0" + exif(6)[:-6]),
        Limits(),
        "has damaged metadata",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_read_as_meant_is_refused_in_one_line(path, name):
    file, limits, words = REFUSED[name]
    path.write_bytes(file)
    message = refusal(reading.read_image, path, limits)
    assert words in message
    print(f"{name} | {message.removeprefix(str(path) + ': ')}")


def test_what_is_no_readable_file_is_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(tmp_path / "pipe.png")
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(grey(1), GREY))
    secret.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read anything
        os.seteuid(65534)
    try:
        assert "cannot be opened (Permission denied)" in refusal(reading.read_image, secret)
    finally:
        os.seteuid(user)
    for name, words in {
        "folder.png": "is not a file",
        "loop.png": "cannot be opened (Too many levels of symbolic links)",
        "gone.png": "cannot be opened (No such file or directory)",
        "pipe.png": "is not a file",
    }.items():
        for read in (reading.read_image, masks.read_mask, reading.read_size):
            message = refusal(read, tmp_path / name)
            assert words in message
        print(f"{name} | {message.removeprefix(str(tmp_path))}")


def test_no_flipped_bit_and_no_cut_of_a_png_changes_a_pixel(path):
    whole = png(NOISE[:3, :2], RGB, before=chunk(b"eXIf", exif(2)))
    array = NOISE[:3, 1::-1]
    path.write_bytes(whole)
    np.testing.assert_array_equal(reading.read_image(path), array)
    damaged = [whole[:n] for n in range(len(whole) - 4)]
    for bit in range(8 * len(whole)):
        file = bytearray(whole)
        file[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(file))
    refused = 0
    for file in damaged:
        path.write_bytes(file)
        try:
            image = reading.read_image(path)
        except errors.UserError:
            refused += 1
        else:
            np.testing.assert_array_equal(image, array)
    assert refused > 0.9 * len(damaged)


def test_no_cut_of_a_jpeg_or_tiff_passes(path):
    for whole in (
        by_pillow(NOISE[:8, :8], "JPEG"),
        by_pillow(NOISE[:8, :8], "JPEG", progressive=True),
        by_pillow(NOISE[:3, :4], "TIFF"),
        by_pillow(NOISE[:3, :4], "TIFF", compression="tiff_lzw"),
        by_pillow(NOISE[:3, :4], "TIFF", compression="tiff_adobe_deflate"),
    ):
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            refusal(reading.read_image, path)


def bomb(side):
    """A PNG of side x side black pixels; a thousandth of them in bytes."""
    packer = zlib.compressobj(9)
    row = bytes(1 + side)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, GREY, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_bomb_is_refused_before_it_takes_memory(path):
    path.write_bytes(bomb(10_000))
    assert path.stat().st_size < 200_000
    code = """
import resource, sys
from pathlib import Path
from segdiff_jax.data.image_io import masks, reading
from segdiff_jax.errors import UserError
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for read in (reading.read_image, masks.read_mask):
    try: read(Path(sys.argv[1]))
    except UserError as error: print(error)
print(reading.read_size(Path(sys.argv[1])))
print(peak() - before)
"""
    command = [sys.executable, "-W", "error", "-c", code, str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    *lines, size, growth = lines.stdout.splitlines()
    assert len(lines) == 2 and "has 10000 x 10000 pixels" in lines[0] and lines[0] == lines[1]
    assert size == "(10000, 10000)" and int(growth) < 20
    print(f"{lines[0]} | +{growth} MB")


def test_pillows_own_limit_does_not_count(path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # an error from 20, a warning below
    for file in (png(NOISE, RGB), tiff(NOISE), tiff(NOISE[:3, :5]), by_pillow(NOISE, "JPEG")):
        path.write_bytes(file)
        assert reading.read_image(path).size > 0
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_tag_with_a_value_too_many_does_no_harm(path):
    path.write_bytes(tiff(grey(7), tags=[(296, (2, 2)), (282, (72, 1)), (283, (72, 1))]))
    np.testing.assert_array_equal(reading.read_image(path), shown((7,)))


def test_nothing_of_a_damaged_tiff_reaches_the_log_but_what_others_read_does(path, caplog):
    path.write_bytes(REFUSED["TIFF with a tag of no known type"][0])
    refusal(reading.read_image, path)
    assert not caplog.records
    with tifffile.TiffFile(path):
        assert caplog.records


def test_threads_read_at_once_and_leave_pillow_as_it_was(tmp_path):
    files = []
    for index, (file, _, words) in enumerate(REFUSED.values()):
        files.append((tmp_path / f"{index}", words))
        files[-1][0].write_bytes(file)
    for index, (file, pixels) in enumerate(IMAGES.values()):
        files.append((tmp_path / f"image-{index}", shown(pixels)))
        files[-1][0].write_bytes(file)
    failed = []

    def work(turn):
        try:
            for path, expected in files[turn:] + files[:turn]:
                if isinstance(expected, str):
                    refused_or_not(path)
                else:
                    np.testing.assert_array_equal(reading.read_image(path), expected)
        except BaseException as error:
            failed.append(error)

    def refused_or_not(path):
        try:
            reading.read_image(path)
        except errors.UserError:
            pass

    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    threads = [threading.Thread(target=work, args=(9 * turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert limit == Image.MAX_IMAGE_PIXELS and filters == list(warnings.filters)


def test_warnings_of_others_pass_through(path, monkeypatch):
    path.write_bytes(png(grey(7), GREY))
    load = Image.Image.load

    def warned(image):
        warnings.warn("of somebody else", UserWarning, stacklevel=1)
        return load(image)

    monkeypatch.setattr(Image.Image, "load", warned)
    with pytest.warns(UserWarning, match="of somebody else"):
        reading.read_image(path)


def test_a_path_need_not_be_absolute(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(png(grey(7), GREY))
    monkeypatch.chdir(tmp_path)
    assert reading.read_image(Path("x.png")).shape == (1, 1, 3)
