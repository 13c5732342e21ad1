"""Masks are read as they are meant or refused in one line; the expected values are by hand."""

import struct

import numpy as np
import pytest
from image_files import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, chunk, png, tiff
from image_rows import by_pillow, colour, grey, palette, refusal
from PIL import Image

from segdiff_jax.data.image_io import masks, reading
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
CMYK = colour((0, 0, 0, 0), (255, 0, 0, 0))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


VOC = palette((0, 0, 0), (128, 0, 0), (0, 128, 0))

ONE_BIT_RGB = [(256, 2), (258, (1, 1, 1)), (277, 3), (339, (1, 1, 1))]
WHITE_FIRST = grey(255, 0, 0, 255)[..., None]


def bitmap(*colours):
    """A BMP of 1 bit, 3 x 1 pixels of the indices 1, 0, 0, whose palette has two colours."""
    table = b"".join(bytes(reversed(colour)) + b"\0" for colour in colours)
    info = struct.pack("<IiiHHIIiiII", 40, 3, 1, 1, 1, 0, 4, 0, 0, 2, 0)
    start = 14 + 40 + len(table)
    return b"BM" + struct.pack("<IHHI", start + 4, 0, 0, start) + info + table + b"\x80\0\0\0"


MASKS = {  # name: (file, mask, what stood for foreground)
    "0 and 1": (png(grey(0, 1, 1), GREY), (0, 1, 1), 1),
    "0 and 255": (png(grey(0, 255, 0), GREY), (0, 1, 0), 255),
    "only 0": (png(grey(0, 0), GREY), (0, 0), 0),
    "only 1": (png(grey(1, 1), GREY), (1, 1), 1),
    "only 255": (png(grey(255, 255), GREY), (1, 1), 255),
    "1 bit": (png(grey(0, 1), GREY, 1), (0, 1), 1),
    "palette": (png(grey(0, 1, 1), PALETTE, before=VOC), (0, 1, 1), 1),
    "palette of 1 bit": (png(grey(0, 1, 1), PALETTE, 1, before=VOC), (0, 1, 1), 1),
    "palette of greys": (
        png(grey(0, 255), PALETTE, before=palette(*[(i,) * 3 for i in range(256)])),
        (0, 1),
        1,
    ),
    "palette with white first": (
        png(grey(0, 1, 1), PALETTE, before=palette((255,) * 3, (0,) * 3)),
        (1, 0, 0),
        1,
    ),
    "palette with the brighter colour first": (
        png(grey(0, 1, 0), PALETTE, before=palette((200, 180, 90), (20, 10, 90))),
        (1, 0, 1),
        1,
    ),
    "palette TIFF with white first": (
        tiff(grey(0, 1), photometric=3, tags=[(320, (65535, *[0] * 255) * 3)]),
        (1, 0),
        1,
    ),
    "palette GIF with white first": (
        by_pillow(np.repeat(WHITE_FIRST, 3, axis=-1), "GIF", "P"),
        (1, 0, 0, 1),
        1,
    ),
    "BMP of 1 bit with white first": (bitmap((255,) * 3, (0,) * 3), (0, 1, 1), 1),
    "palette, black alone": (png(grey(0, 0), PALETTE, before=VOC), (0, 0), 0),
    "palette, white alone": (png(grey(0, 0), PALETTE, before=palette((255,) * 3)), (1, 1), 1),
    "palette, the second colour alone": (png(grey(1, 1), PALETTE, before=VOC), (1, 1), 1),
    "other indices": (png(grey(0, 2), PALETTE, before=VOC), (0, 1), 1),
    "whole floats": (tiff(grey(0, 1, dtype=np.float32)), (0, 1), 1),
    "BMP": (by_pillow(grey(0, 255, 0), "BMP"), (0, 1, 0), 255),
    "lossless WebP": (by_pillow(grey(0, 255, 0), "WEBP", lossless=True), (0, 1, 0), 255),
    "grey GIF": (by_pillow(grey(0, 255, 0), "GIF"), (0, 1, 0), 1),
    "palette with transparency": (
        png(grey(0, 1), PALETTE, before=VOC + chunk(b"tRNS", b"\0")),
        (0, 1),
        1,
    ),
    "grey RGB": (png(colour((0, 0, 0), (255, 255, 255)), RGB), (0, 1), 255),
    "opaque RGBA": (png(colour((0, 0, 0, 255), (1, 1, 1, 255)), RGBA), (0, 1), 1),
    "opaque grey with alpha": (png(colour((0, 255), (255, 255)), GREY_ALPHA), (0, 1), 255),
    "16 bits, 0 and 65535": (png(grey(0, 65535, dtype=np.uint16), GREY, 16), (0, 1), 255),
    "16 bits, 0 and 255": (tiff(grey(0, 255, dtype=np.uint16)), (0, 1), 255),
    "16 bits, 0 and 1": (tiff(grey(0, 1, dtype=np.uint16), order=">"), (0, 1), 1),
    "1-bit RGB": (tiff(grey(0b00011100), photometric=2, tags=ONE_BIT_RGB), (0, 1), 1),
    "16-bit RGB, 0 and 1": (
        png(colour((0, 0, 0), (1, 1, 1), dtype=np.uint16), RGB, 16),
        (0, 1),
        1,
    ),
    "32-bit labels": (tiff(grey(0, 1, dtype=np.int32)), (0, 1), 1),
    "big-endian 32-bit labels": (tiff(grey(0, 1, dtype=np.int32), order=">"), (0, 1), 1),
    "clean JPEG": (by_pillow(np.full((8, 8), 255, np.uint8), "JPEG"), np.ones((8, 8)), 255),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_of_two_values_is_read(path, name):
    file, pixels, top = MASKS[name]
    path.write_bytes(file)
    mask = masks.read_mask(path)
    assert mask.pixels.dtype == np.uint8 and mask.top == top
    np.testing.assert_array_equal(mask.pixels, np.atleast_2d(pixels))


ELLIPSE = (np.hypot(*(np.mgrid[:32, :32] - 16)) < 9).astype(np.uint8) * 255


@pytest.mark.parametrize("quality", [75, 90, 95, 100])
def test_a_jpeg_mask_of_0_and_255_is_what_was_saved(path, quality):
    path.write_bytes(by_pillow(ELLIPSE, "JPEG", quality=quality))
    assert len(np.unique(reading.decode(path).values)) > 2
    mask = masks.read_mask(path)
    np.testing.assert_array_equal(mask.pixels, ELLIPSE // 255)
    assert mask.top == 255


NO_MASKS = {
    "other values": (
        png(grey(0, 3, 7, 200), GREY),
        "mask holds the values 0, 3, 7, 200; allowed are 0 and 1, or 0 and 255",
    ),
    "many values": (
        png(np.arange(64, dtype=np.uint8).reshape(8, 8), GREY),
        "mask holds the values 0, 1, 2, 3, 4 and 59 more; allowed are 0 and 1, or 0 and 255",
    ),
    "0, 1 and 255": (png(grey(0, 1, 255), GREY), "mask holds the values 0, 1, 255;"),
    "0 and 128": (png(grey(0, 128), GREY), "mask holds the values 0, 128;"),
    "three indices": (
        png(grey(0, 1, 2), PALETTE, before=VOC),
        "mask has a palette, and 3 colours of it (index 0: (0, 0, 0), index 1: (128, 0, 0),",
    ),
    "two colours of one brightness": (
        png(grey(0, 1), PALETTE, before=palette((9,) * 3, (9,) * 3)),
        "mask has a palette, and two colours of one brightness of it",
    ),
    "colours": (
        png(colour((0, 0, 0), (255, 0, 0)), RGB),
        "is coloured; a mask is grey, or has a palette",
    ),
    "JPEG": (by_pillow(ELLIPSE, "JPEG", quality=40), "JPEG is lossy, so keep masks as PNG"),
    "JPEG of grey": (by_pillow(ELLIPSE // 255 * 160, "JPEG"), "JPEG is lossy, so keep masks"),
    "JPEG of labels": (by_pillow(ELLIPSE // 255 * 9, "JPEG"), "JPEG is lossy, so keep masks"),
    "coloured JPEG": (
        by_pillow(NOISE, "JPEG"),
        "is coloured; a mask is grey, or has a palette: JPEG is lossy",
    ),
    "floats": (
        tiff(grey(0, 0.5, dtype=np.float32)),
        "holds floats from 0 to 0.5; a mask holds 0 and 1, or 0 and",
    ),
    "negative": (tiff(grey(0, -1, dtype=np.int16)), "mask holds the values -1, 0;"),
    "negative and 1": (tiff(grey(0, 1, -1, dtype=np.int16)), "mask holds the values -1, 0, 1;"),
    "transparent": (png(colour((0, 0, 0, 0)), RGBA), "1 of 1 pixels are transparent"),
    "0 for white": (tiff(grey(0, 255), photometric=0), "is a TIFF with 0 for white"),
    "CMYK": (tiff(CMYK, photometric=5), "pixels of mode CMYK; a mask is grey"),
    "16-bit CMYK": (tiff(CMYK.astype(np.uint16), photometric=5), "pixels of mode CMYK"),
    "two pages": (tiff(grey(1), grey(0)), "has 2 pages"),
}


@pytest.mark.parametrize("name", NO_MASKS)
def test_what_is_no_mask_is_refused_with_its_values(path, name):
    file, words = NO_MASKS[name]
    path.write_bytes(file)
    message = refusal(masks.read_mask, path)
    assert words in message
    print(f"{name} | {message.removeprefix(str(path) + ': ')}")


def test_every_other_pair_of_values_is_refused(path):
    for value in set(range(256)) - {0, 1, 255}:
        path.write_bytes(png(grey(0, value), GREY))
        assert f"values 0, {value};" in refusal(masks.read_mask, path)


def test_a_mask_in_fax_compression_is_read_as_it_is_shown(path):
    """Of CCITT both orders are usual, and are shown as they were meant."""
    truth = np.random.default_rng(0).random((13, 21)) < 0.3
    white_is_zero = {262: 0}  # PhotometricInterpretation
    Image.fromarray(truth).save(path, "TIFF", compression="group4", tiffinfo=white_is_zero)
    with Image.open(path) as image:
        assert image.getexif()[262] == 0
    np.testing.assert_array_equal(masks.read_mask(path).pixels, truth)


OBJECTS = np.kron(np.array([[0, 3, 0], [12, 0, 700]]), np.ones((4, 4), int))
SOFT = np.clip(128 + 25 * (9 - np.hypot(*(np.mgrid[:32, :32] - 16))), 0, 255).astype(np.uint8)
LABELLED = {  # name: (file, labels)
    "16 bits": (png(OBJECTS.astype(np.uint16), GREY, 16), OBJECTS),
    "32 bits with a sign": (tiff(OBJECTS.astype(np.int32)), OBJECTS),
    "32 bits, big-endian": (tiff(OBJECTS.astype(np.uint32), order=">"), OBJECTS),
    "floats": (tiff(OBJECTS.astype(np.float32)), OBJECTS),
    "wide RGB": (tiff(np.stack([OBJECTS] * 3, -1).astype(np.int16)), OBJECTS),
    "8 bits": (png(OBJECTS % 256, GREY), OBJECTS % 256),
    "one object": (png(OBJECTS // 700 * 7, GREY), OBJECTS // 700 * 7),
}


@pytest.mark.parametrize("name", LABELLED)
def test_labels_of_objects_are_kept_and_all_above_0_are_foreground(path, name):
    file, labels = LABELLED[name]
    path.write_bytes(file)
    mask = masks.read_mask(path, foreground="auto")
    assert mask.kind == masks.LABELS and mask.labels.dtype == np.int32
    np.testing.assert_array_equal(mask.labels, labels)
    np.testing.assert_array_equal(mask.pixels, labels > 0)
    refusal(masks.read_mask, path)  # where there are no labels


NO_LABELS = {
    "255 beside labels": png(np.where(OBJECTS == 700, 255, OBJECTS), GREY),
    "65535 beside labels": png(np.where(OBJECTS == 700, 65535, OBJECTS).astype("u2"), GREY, 16),
    "negative labels": tiff((OBJECTS - 3).astype(np.int16)),
    "no background": png(OBJECTS.astype(np.uint8) + 1, GREY),
    "anti-aliased": png(SOFT, GREY),
    "anti-aliased of 16 bits": png(SOFT.astype(np.uint16) * 256, GREY, 16),
    "a photograph": png(NOISE[..., 0] // 2, GREY),
    "a photograph of 16 bits": tiff(NOISE[..., 0].astype(np.uint16) * 200),
    "JPEG of labels": by_pillow(np.uint8(OBJECTS % 100), "JPEG", quality=100),
    "probabilities": tiff(SOFT.astype(np.float32) / 255),
    "many colours": png(grey(0, 1, 2), PALETTE, before=VOC),
    "colours": png(colour((0, 0, 0), (255, 0, 0)), RGB),
    "0 for white": tiff(grey(0, 255), photometric=0),
}


@pytest.mark.parametrize("name", NO_LABELS)
def test_what_is_unclear_is_refused_with_the_field_that_makes_it_clear(path, name):
    path.write_bytes(NO_LABELS[name])
    message = refusal(lambda file: masks.read_mask(file, foreground="auto"), path)
    assert "config.folder.foreground=nonzero, =VALUE or =aboveVALUE" in message


ASKED = {  # name: (file, foreground, mask)
    "trimap, 1": (png(grey(1, 2, 3, 1), GREY), "1", (1, 0, 0, 1)),
    "without a background, 2": (png(grey(1, 2), GREY), "2", (0, 1)),
    "with what is ignored, 1": (png(grey(0, 1, 255), GREY), "1", (0, 1, 0)),
    "with what is ignored, nonzero": (png(grey(0, 1, 255), GREY), "nonzero", (0, 1, 1)),
    "index 2": (png(grey(0, 1, 2), PALETTE, before=VOC), "2", (0, 0, 1)),
    "indices": (png(grey(0, 1, 2), PALETTE, before=VOC), "nonzero", (0, 1, 1)),
    "bright colours": (
        png(grey(0, 1, 2), PALETTE, before=palette((255,) * 3, (0,) * 3, (90, 90, 90))),
        "above127",
        (1, 0, 0),
    ),
    "colours": (png(colour((0, 0, 0), (255, 0, 0)), RGB), "nonzero", (0, 1)),
    "grey values": (png(grey(0, 127, 128, 255), GREY), "above127", (0, 0, 1, 1)),
    "with a sign": (png(grey(0, 127, 128, 255), GREY), ">127", (0, 0, 1, 1)),
    "probabilities": (tiff(grey(0, 0.5, 0.7, dtype=np.float32)), "above0.5", (0, 0, 1)),
    "16 bits": (tiff(grey(0, 300, 301, dtype=np.uint16)), "above300", (0, 0, 1)),
    "a negative value": (tiff(grey(-1, 0, 5, dtype=np.int16)), "-1", (1, 0, 0)),
    "0 for white": (tiff(grey(0, 255), photometric=0), "nonzero", (1, 0)),
    "16 bits, 0 for white": (
        tiff(grey(0, 65535, dtype=np.uint16), photometric=0),
        "nonzero",
        (1, 0),
    ),
    "transparent": (png(colour((0, 255), (9, 0)), GREY_ALPHA), "9", (0, 1)),
    "0 as foreground": (png(grey(0, 255), GREY), "0", (1, 0)),
}


@pytest.mark.parametrize("name", ASKED)
def test_foreground_is_what_is_asked_for(path, name):
    file, foreground, pixels = ASKED[name]
    path.write_bytes(file)
    mask = masks.read_mask(path, foreground=foreground)
    np.testing.assert_array_equal(mask.pixels, np.atleast_2d(pixels))
    assert mask.pixels.dtype == np.uint8 and mask.kind == "as asked for"


def test_a_threshold_undoes_any_blur_of_jpeg(path):
    for quality in (10, 40, 90):
        for array in (ELLIPSE, np.stack([ELLIPSE] * 3, -1)):
            path.write_bytes(by_pillow(array, "JPEG", quality=quality))
            mask = masks.read_mask(path, foreground="above127")
            assert np.mean(mask.pixels != ELLIPSE // 255) < 0.02


def test_the_choice_of_channels_is_one_of_images(path):
    path.write_bytes(png(grey(0, 1), GREY))
    mask = masks.read_mask(path, Limits(channels=(2, 1, 0)))
    np.testing.assert_array_equal(mask.pixels, [[0, 1]])


@pytest.mark.parametrize("page", [-1, 0, 3])
def test_a_page_chosen_for_images_is_not_demanded_of_a_mask_of_one_page(path, page):
    path.write_bytes(tiff(grey(0, 1, 1)))
    mask = masks.read_mask(path, Limits(page=page)).pixels
    np.testing.assert_array_equal(mask, grey(0, 1, 1))


def test_a_mask_of_as_many_pages_as_its_image_gives_the_same_page(path, tmp_path):
    image = tmp_path / "image.tif"
    image.write_bytes(tiff(*(grey(1, 2, 3),) * 3))
    path.write_bytes(tiff(grey(0, 0, 1), grey(0, 1, 0), grey(1, 0, 0)))
    mask = masks.read_mask(path, Limits(page=1), image=image).pixels
    np.testing.assert_array_equal(mask, grey(0, 1, 0))


def test_a_mask_of_other_pages_than_its_image_is_refused(path, tmp_path):
    image = tmp_path / "image.tif"
    image.write_bytes(tiff(*(grey(1, 2, 3),) * 3))
    path.write_bytes(tiff(grey(0, 0, 1), grey(0, 1, 0)))
    with pytest.raises(UserError, match=r"has 2 pages, and its image image.tif 3; allowed is"):
        masks.read_mask(path, Limits(page=1), image=image)
