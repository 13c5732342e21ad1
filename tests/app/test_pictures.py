"""Files that a browser sent are read exactly, or refused in a line that begins with their name."""

import zlib

import numpy as np
import pytest
import tifffile
from image_files import chunk
from page_pictures import picture, png

from segdiff_jax.app import pictures
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import UserError


def test_a_file_is_read_whatever_it_is_called(tmp_path):
    (tmp_path / "4711").write_bytes(png(picture()))
    found = pictures.read(tmp_path / "4711", "a.bmp", Limits())
    np.testing.assert_array_equal(found.pixels, picture())
    assert found.name == "a.bmp" and found.scale is None


def test_the_size_of_pixels_is_that_of_the_file(tmp_path):
    path, half_micrometre = tmp_path / "4711", (20_000, 20_000)  # pixels a centimetre
    tifffile.imwrite(path, picture()[..., 0], resolution=half_micrometre, resolutionunit=3)
    found = pictures.read(path, "a.tif", Limits())
    assert found.scale.pixel_area == pytest.approx(0.25) and found.scale.unit == "um"


HEADER = chunk(b"IHDR", (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0]))
BOMB = HEADER + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(100), "begins with"),
        (b"<script>alert(1)</script>", "begins with"),
        (b"\x89PNG\r\n\x1a\n" + BOMB, "60000 x 60000 pixels"),
        (png(picture())[:100], "cannot be decoded"),
    ],
)
def test_what_is_no_whole_picture_is_a_line_without_the_place_where_it_lies(
    tmp_path, content, reason
):
    path = tmp_path / "0123456789abcdef"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as error:
        pictures.read(path, "mine.png", Limits())
    line = str(error.value)
    assert line.startswith("mine.png: ") and "\n" not in line and str(tmp_path) not in line


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\b.tif", "b.tif"),
        ("/", "picture"),
        ("", "picture"),
        ("a\x1b[31m\n.png", "a\\x1b[31m\\n.png"),
        ("\udc80.png", "\\udc80.png"),
        ("x" * 300 + ".png", "x" * 93 + "....png"),
    ],
)
def test_a_name_is_shown_without_folders_and_controls_and_not_too_long(sent, shown):
    assert pictures.shown_name(sent) == shown


def test_names_of_a_page_are_unique():
    assert pictures.unique("a.png", {"b.png"}) == "a.png"
    assert pictures.unique("a.png", {"a.png", "a (2).png"}) == "a (3).png"


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.png", "a"),
        ("a b (2).png", "a b (2)"),
        ("Zähne.tif", "Zähne"),
        ('<b>"x".png', '_b__x_'),
        ("..", "_"),
        (".png", "_.png"),
        ("con.png", "_con"),
        ("lpt1.x.png", "_lpt1.x"),
    ],
)  # fmt: skip
def test_files_that_are_given_back_have_a_name_that_every_system_takes(name, stem):
    assert pictures.file_stem(name).strip("_.") == stem.strip("_.")
    assert not set('<>:"/\\|?*') & set(pictures.file_stem(name))
    assert not pictures._RESERVED.match(pictures.file_stem(name))
