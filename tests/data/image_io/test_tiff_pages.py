"""Pages, bands and planes of TIFF files, written by tifffile and by hand."""

import itertools

import numpy as np
import pytest
import tifffile
from image_files import tiff
from image_rows import refusal

from segdiff_jax.data.image_io import reading, writing
from segdiff_jax.data.image_io.headers import Limits

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (20, 37, 3)).astype(np.uint8)
GREY = RGB[..., 0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.tif"


def read(path, **limits):
    return reading.read_image(path, Limits(**limits))


LAYOUTS = list(
    itertools.product(
        ["<", ">"],
        [False, True],
        ["contig", "separate"],
        [None, (16, 16)],
        [None, "lzw", "deflate", "zstd"],
    )
)


@pytest.mark.parametrize("order, big, planar, tile, compression", LAYOUTS)
def test_every_layout_of_rgb_holds_its_pixels(path, order, big, planar, tile, compression):
    for dtype, scale in ((np.uint8, 1), (np.uint16, 257), (np.float32, 1 / 255)):
        array = (RGB.astype(float) * scale).astype(dtype)
        array = np.moveaxis(array, -1, 0) if planar == "separate" else array
        options = {"byteorder": order, "bigtiff": big, "tile": tile, "compression": compression}
        tifffile.imwrite(path, array, photometric="rgb", planarconfig=planar, **options)
        np.testing.assert_array_equal(read(path), RGB)
        assert reading.read_size(path) == (20, 37)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_three_bands_that_nobody_named_are_red_green_and_blue(path, dtype, planar):
    array = RGB.astype(dtype)
    array = np.moveaxis(array, -1, 0) if planar == "separate" else array
    tifffile.imwrite(path, array, photometric="minisblack", planarconfig=planar)
    np.testing.assert_array_equal(read(path), RGB)


@pytest.mark.parametrize("bands", [2, 4, 5, 8])
def test_other_numbers_of_bands_are_refused_with_the_field_that_chooses(path, bands):
    array = RNG.integers(0, 256, (20, 37, bands)).astype(np.uint16)
    tifffile.imwrite(path, array, photometric="minisblack", planarconfig="contig")
    message = refusal(read, path)
    assert f"has {bands} channels of uint16, declared as grey; config.reading.channels" in message
    np.testing.assert_array_equal(read(path, channels=(1,))[..., 2], array[..., 1])
    chosen = (bands - 1, 0, 1)
    np.testing.assert_array_equal(read(path, channels=chosen), array[..., list(chosen)])
    assert f"channels={bands} are not all there" in refusal(
        lambda file: read(file, channels=(bands,)), path
    )


def test_rgb_with_a_fourth_band_is_refused_until_channels_are_chosen(path):
    array = np.dstack([RGB, GREY])
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=[0])
    assert "has 4 channels of uint8, declared as RGB" in refusal(read, path)
    np.testing.assert_array_equal(read(path, channels=(0, 1, 2)), RGB)
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=[2])
    assert "pixels are transparent" in refusal(read, path)
    np.testing.assert_array_equal(read(path, channels=(0, 1, 2)), RGB)
    array[..., 3] = 255
    tifffile.imwrite(path, array, photometric="minisblack", extrasamples=[0, 0, 2])
    np.testing.assert_array_equal(read(path), RGB)


@pytest.mark.parametrize("kind, photometric", [(4, 4), (4, 1), (1, 1), (5, 4), (3, 1)])
def test_masks_and_overviews_are_no_pages(path, kind, photometric):
    def part(file, shape):
        options = {"photometric": photometric, "subfiletype": kind, "metadata": None}
        file.write(np.ones(shape, bool), **options)

    with tifffile.TiffWriter(path) as file:
        file.write(RGB, photometric="rgb", metadata=None)
        part(file, (20, 37))
        part(file, (10, 18))
    np.testing.assert_array_equal(read(path), RGB)
    np.testing.assert_array_equal(read(path, page=0), RGB)
    assert "has 1 page, so config.reading.page=1 is not there" in refusal(
        lambda file: read(file, page=1), path
    )
    with tifffile.TiffWriter(path) as file:
        for array in (RGB, RGB[::-1]):
            file.write(array, photometric="rgb", metadata=None)
            part(file, (20, 37))
    assert "has 2 pages; config.reading.page chooses one" in refusal(read, path)
    np.testing.assert_array_equal(read(path, page=1), RGB[::-1])
    assert reading.read_size(path, Limits(page=1)) == (20, 37)
    assert writing.read_tags(path, 1).tiff.keys() >= {282, 283}


@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize("axes", ["TCYX", "CYX", "ZCYX", "TZCYX", "ZYX", "TYX"])
def test_a_stack_is_read_plane_by_plane_with_all_its_channels(path, kind, axes):
    sizes = {"T": 2, "Z": 3, "C": 3, "Y": 20, "X": 37}
    array = RNG.integers(0, 256, [sizes[axis] for axis in axes]).astype(np.uint16)
    array[..., 0, 0] = 255  # so that 0..255 is the usual range of every plane
    tifffile.imwrite(path, array, **{kind: True}, metadata={"axes": axes})
    planes = array.reshape(-1, 3, 20, 37) if "C" in axes else array[:, None]
    for number, plane in enumerate(planes):
        expected = np.moveaxis(plane, 0, -1) if len(plane) == 3 else np.stack([plane[0]] * 3, -1)
        np.testing.assert_array_equal(read(path, page=number), expected)
        if "C" in axes:
            image = read(path, page=number, channels=(2, 2, 0))
            np.testing.assert_array_equal(image, expected[..., [2, 2, 0]])
            np.testing.assert_array_equal(
                read(path, page=number, channels=(1,)), expected[..., [1, 1, 1]]
            )
    if len(planes) > 1:
        message = refusal(read, path)
        assert (
            f"has {len(planes)} planes ({'ImageJ' if kind == 'imagej' else 'OME'} stack" in message
        )
        assert ", each of 3 channels" in message or "C" not in axes
    else:
        np.testing.assert_array_equal(read(path), np.moveaxis(planes[0], 0, -1))


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_a_stack_of_two_or_four_channels_asks_for_them(path, kind):
    for count in (2, 4):
        array = RNG.integers(0, 256, (count, 20, 37)).astype(np.uint8)
        tifffile.imwrite(path, array, **{kind: True}, metadata={"axes": "CYX"})
        assert f"has {count} channels of uint8" in refusal(read, path)
        np.testing.assert_array_equal(read(path, channels=(1,))[..., 0], array[1])


@pytest.mark.parametrize("order", ["XYZCT", "XYCZT", "XYTCZ"])
def test_the_order_of_planes_in_an_ome_file_counts(path, order):
    sizes = {"C": 3, "Z": 2, "T": 2}
    pages = {}
    for place in itertools.product(*(range(sizes[axis]) for axis in reversed(order[2:]))):
        c, z, t = (dict(zip(reversed(order[2:]), place, strict=True))[axis] for axis in "CZT")
        pages[c, z, t] = np.full((4, 4), 10 + c + 10 * z + 100 * t, np.uint8)
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint8" SizeX="4" SizeY="4" '
        'SizeC="3" SizeZ="2" SizeT="2"/></Image></OME>'
    )
    with tifffile.TiffWriter(path) as file:
        for number, page in enumerate(pages.values()):
            file.write(page, metadata=None, description=text if number == 0 else None)
    for number, (t, z) in enumerate(itertools.product(range(2), range(2))):
        expected = [10 + c + 10 * z + 100 * t for c in range(3)]
        assert read(path, page=number)[0, 0].tolist() == expected


def test_an_imagej_stack_with_one_page_for_all_planes_is_read(path):
    planes = RNG.integers(0, 256, (5, 6, 7)).astype(">u2")
    planes[:, 0, 0] = 255
    file = tiff(planes[0], order=">")
    whole = bytearray(tiff(np.concatenate([p for p in planes]), order=">"))
    text = b"ImageJ=1.54f\nimages=5\nslices=5\n\0"
    tifffile.imwrite(
        path, planes[0], byteorder=">", metadata=None, description=text.decode("ascii")[:-1]
    )
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as opened:
        page = opened.pages[0]
        offset = page.dataoffsets[0]
        place = page.tags[273].valueoffset
    assert page.tags[273].count == 1 and len(file) < len(whole)
    start = len(content)
    content[place : place + 4] = start.to_bytes(4, "big")
    path.write_bytes(bytes(content) + planes.tobytes())
    assert offset != start
    for number, plane in enumerate(planes):
        np.testing.assert_array_equal(read(path, page=number)[..., 0], plane)
    assert "has 5 planes (ImageJ stack)" in refusal(read, path)
    path.write_bytes(path.read_bytes()[:-3])
    assert "lacks a part of its planes" in refusal(lambda f: read(f, page=4), path)


def test_a_refusal_says_what_the_file_is(path):
    cases = {
        "compression JPEG2000": {"tags": [(259, 34712)]},
        "colours CIELAB": {"photometric": 8},
    }
    for words, options in cases.items():
        path.write_bytes(tiff(RGB[:2, :2], **options))
        message = refusal(read, path)
        assert words in message and "of 8 or 16 bits" not in message
