"""Arrays and Pillow images of any kind become the pixels that they show, or are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from segdiff_jax.data.image_io.arrays import to_rgb
from segdiff_jax.data.image_io.reading import read_image

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
READ_ONLY = RGB.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "image, shown",
    [
        (RGB, RGB),
        (READ_ONLY, RGB),
        (np.repeat(RGB, 2, axis=0)[::2], RGB),
        (RGB[::-1, ::-1].copy()[::-1, ::-1], RGB),
        (np.asfortranarray(RGB), RGB),
        (np.moveaxis(np.moveaxis(RGB, -1, 0).copy(), 0, -1), RGB),
        (memoryview(RGB), RGB),
        (GREY, GREY[..., None]),
        (GREY[..., None], GREY[..., None]),
        (GREY > 100, 255 * (GREY > 100)[..., None]),
        (RGB.astype(np.uint16) * 257, RGB),
        (RGB.astype(np.uint16), RGB),  # 8 bits in 16
        ((RGB.astype(np.uint16) * 257).astype(">u2"), RGB),
        (GREY.astype(np.uint16)[..., None] * 257 + 128, GREY[..., None]),
        (RGB / 255, RGB),
        ((RGB / 255).astype(np.float32), RGB),
        ((RGB / 255).astype(np.float16), RGB),
        (RGB.astype(np.float64), RGB),
        (np.asfortranarray(RGB / 255)[:, ::-1], RGB[:, ::-1]),
    ],
)
def test_arrays_of_every_allowed_kind_are_shown_as_they_are(image, shown):
    rgb = to_rgb(image)
    assert rgb.dtype == np.uint8 and rgb.shape == (6, 8, 3) and rgb.flags.writeable
    np.testing.assert_array_equal(rgb, np.broadcast_to(shown, (6, 8, 3)))


SMOOTH = np.stack(
    np.broadcast_arrays(np.arange(0, 240, 40)[:, None], np.arange(0, 240, 30), 90), -1
)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "RGBa", "La", "PA"]
)
def test_images_of_pillow_are_shown_as_pillow_shows_them(mode):
    colour = Image.fromarray(SMOOTH.astype(np.uint8))
    between = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)
    grey = mode in ("1", "L", "LA", "La")
    image = (colour.convert("L") if grey else colour).convert(between).convert(mode)
    if grey:
        wanted = np.asarray(image.convert("LA" if mode == "La" else mode).convert("L"))[..., None]
    else:
        wanted = np.asarray(image.convert("RGBA" if mode == "RGBa" else mode).convert("RGB"))
    np.testing.assert_array_equal(to_rgb(image), np.broadcast_to(wanted, (6, 8, 3)))
    if mode not in ("1", "P", "PA"):  # which hold few colours
        luma = np.asarray(colour.convert("L"))[..., None] if grey else SMOOTH
        assert np.abs(to_rgb(image).astype(int) - luma).max() <= 12


def test_a_picture_in_lab_is_shown_in_its_colours():
    lab = Image.merge("LAB", [Image.new("L", (4, 3), v) for v in (136, 80 + 128, 67 + 128)])
    assert np.abs(to_rgb(lab)[0, 0].astype(int) - (255, 0, 0)).max() <= 12  # L*a*b* of red


@pytest.mark.parametrize("dtype, mode", [(np.uint16, "I;16"), (np.int32, "I"), (np.float32, "F")])
def test_deep_images_of_pillow_have_the_range_of_their_arrays(dtype, mode):
    values = GREY.astype(dtype) * 257 if mode != "F" else (GREY / 255).astype(dtype)
    image = Image.fromarray(values)
    assert image.mode == mode
    np.testing.assert_array_equal(to_rgb(image)[..., 1], GREY)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "CMYK", "1", "RGBA"])
def test_a_file_and_its_image_are_the_same(tmp_path, mode):
    path = tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}"
    Image.fromarray(SMOOTH.astype(np.uint8)).convert(mode).save(path)
    np.testing.assert_array_equal(to_rgb(Image.open(path)), read_image(path))


def palette_with_transparency():
    file = io.BytesIO()
    Image.fromarray(GREY).convert("P").save(file, "PNG", transparency=0)
    return Image.open(file)


@pytest.mark.parametrize(
    "image, said",
    [
        (np.zeros((8, 8, 4), np.uint8), "(8, 8, 4): put it on a background first"),
        (np.zeros((0, 5), np.uint8), "the shape (0, 5)"),
        (np.zeros((5, 0, 3), np.uint8), "the shape (5, 0, 3)"),
        (np.zeros((5, 5, 0), np.uint8), "the shape (5, 5, 0)"),
        (np.zeros((3, 40, 27), np.uint8), "(3, 40, 27): channels come last"),
        (np.zeros((1, 8, 8, 3), np.uint8), "the shape (1, 8, 8, 3)"),
        (np.zeros((8, 8, 2), np.uint8), "the shape (8, 8, 2)"),
        (np.zeros(8, np.uint8), "the shape (8,)"),
        (np.uint8(3), "the shape ()"),
        (GREY.astype(np.int64), "int64 from 0 to 235"),
        (GREY.astype(np.int16) - 9, "int16 from -9"),
        (GREY.astype(np.uint32), "uint32 from 0"),
        (GREY.astype(complex), "complex128"),
        (GREY - 3.0, "float64 from -3 to 232"),
        (GREY * 9.0, "float64 from 0 to 2115"),
        (np.where(GREY == 5, np.nan, 0.5), "NaN"),
        (np.where(GREY == 5, np.inf, 0.5), "infinity"),
        ("picture.png", "str 'picture.png'"),
        (None, "NoneType"),
        ([[1, 2], [3]], "list"),
        (Image.new("RGBA", (4, 3), (9, 9, 9, 254)), "12 of 12 pixels are transparent"),
        (Image.new("LA", (4, 3), (9, 0)), "12 of 12 pixels are transparent"),
        (palette_with_transparency(), "1 of 48 pixels are transparent"),
        (Image.new("RGB", (0, 0)), "the shape (0, 0"),
        (Image.new("I", (4, 3), 70000), "int32 from 70000"),
    ],
)
def test_everything_else_is_refused_with_what_came_and_what_is_allowed(image, said):
    with pytest.raises(ValueError, match="allowed are Pillow images, and arrays") as error:
        to_rgb(image)
    assert said in str(error.value)
