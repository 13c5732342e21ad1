"""Files are written whole, to the bit, and lie where their source lies."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from segdiff_jax.data.image_io import writing
from segdiff_jax.data.image_io.writing import Tags, read_tags, save
from segdiff_jax.errors import BAD_DATA, CANNOT_WRITE, UserError

RNG = np.random.default_rng(0)
PIXELS = {
    "16 bit": RNG.integers(0, 65536, (37, 53), dtype=np.uint16),
    "8 bit": RNG.integers(0, 2, (37, 53), dtype=np.uint8) * np.uint8(255),
    "colour": RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8),
}
GEO = {  # UTM zone 33 north, half a metre a pixel
    33550: (12, (0.5, 0.5, 0.0)),
    33922: (12, (0.0, 0.0, 0.0, 440720.25, 5_809_151.75, 0.0)),
    34735: (3, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)),
    34736: (12, (6378137.0, 298.257223563)),
    34737: (2, "WGS 84 / UTM zone 33N|"),
    42112: (2, '<GDALMetadata><Item name="STATISTICS_MAXIMUM">255</Item></GDALMetadata>'),
    42113: (2, "0"),
    282: (5, TiffImagePlugin.IFDRational(300, 1)),
    283: (5, TiffImagePlugin.IFDRational(150, 1)),
    296: (3, 2),
}


def write_tiff(path, fields, pixels=PIXELS["colour"], **options):
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for number, (kind, value) in fields.items():
        directory.tagtype[number], directory[number] = kind, value
    Image.fromarray(pixels).save(path, "TIFF", tiffinfo=directory, **options)
    return path


def entries(path):
    """{tag: (type, count)} of a little-endian TIFF, read by hand; and its raw bytes by tag."""
    data = path.read_bytes()
    assert data[:4] == b"II*\0"
    (at,) = struct.unpack_from("<I", data, 4)
    found = {}
    for i in range(struct.unpack_from("<H", data, at)[0]):
        tag, kind, count, value = struct.unpack_from("<HHII", data, at + 2 + 12 * i)
        size = {2: 1, 3: 2, 4: 4, 5: 8, 12: 8}.get(kind, 1) * count
        start = value if size > 4 else at + 2 + 12 * i + 8
        found[tag] = (kind, count, data[start : start + size])
    return found


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", PIXELS)
def test_pixels_come_back_to_the_bit(kind, suffix, tmp_path):
    path = tmp_path / "deep" / f"a{suffix}"
    save(path, PIXELS[kind])
    with Image.open(path) as image:
        assert image.mode == {"16 bit": "I;16", "8 bit": "L", "colour": "RGB"}[kind]
        np.testing.assert_array_equal(np.asarray(image), PIXELS[kind])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_16_bit_png_says_so_in_its_header(tmp_path):
    save(tmp_path / "a.png", PIXELS["16 bit"])
    width, height, depth, colour = struct.unpack_from(
        ">IIBB", (tmp_path / "a.png").read_bytes(), 16
    )
    assert (width, height, depth, colour) == (53, 37, 16, 0)


def test_a_16_bit_tiff_says_so_in_its_header_and_is_compressed(tmp_path):
    save(tmp_path / "a.tif", PIXELS["16 bit"])
    found = {
        tag: struct.unpack("<H", raw)[0]
        for tag, (kind, _, raw) in entries(tmp_path / "a.tif").items()
        if kind == 3 and len(raw) == 2
    }
    assert (found[258], found[259], found[317], found.get(339, 1)) == (16, 5, 2, 1)  # LZW, unsigned


def test_maps_lie_on_the_ground_of_their_source(tmp_path):
    source = write_tiff(tmp_path / "source.tif", GEO)
    save(tmp_path / "map.tif", PIXELS["16 bit"], read_tags(source))
    before, after = entries(source), entries(tmp_path / "map.tif")
    for number in writing.GROUND:
        assert before.get(number) == after.get(number), number
    with Image.open(tmp_path / "map.tif") as image:
        assert image.info["dpi"] == (300, 150)
        assert image.tag_v2[296] == 2


def test_what_gdal_says_of_values_goes_to_pictures_like_the_source_only(tmp_path):
    tags = read_tags(write_tiff(tmp_path / "source.tif", GEO))
    save(tmp_path / "mask.tif", PIXELS["8 bit"], tags)
    save(tmp_path / "overlay.tif", PIXELS["colour"], tags, like_source=True)
    assert not {42112, 42113} & entries(tmp_path / "mask.tif").keys()
    overlay = entries(tmp_path / "overlay.tif")
    assert overlay[42113][2] == b"0\0" and b"STATISTICS_MAXIMUM" in overlay[42112][2]


def test_a_transformation_instead_of_a_scale_is_kept(tmp_path):
    matrix = (0.4, 0.3, 0.0, 5.0, 0.3, -0.4, 0.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    source = write_tiff(tmp_path / "source.tif", {34264: (12, matrix)})
    save(tmp_path / "map.tif", PIXELS["8 bit"], read_tags(source))
    with Image.open(tmp_path / "map.tif") as image:
        assert image.tag_v2[34264] == matrix


# the writer of some releases of Pillow looks at its file once more when it is deleted
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tags_are_those_of_the_page(tmp_path):
    pages = []
    for scale in (1.0, 2.0):
        file = write_tiff(tmp_path / f"{scale}.tif", {33550: (12, (scale, scale, 0.0))})
        pages.append(file)
    with TiffImagePlugin.AppendingTiffWriter(tmp_path / "both.tif", new=True) as writer:
        for page in pages:
            writer.write(page.read_bytes())
            writer.newFrame()
    assert read_tags(tmp_path / "both.tif", 1).tiff[33550][2] == (2.0, 2.0, 0.0)
    assert read_tags(tmp_path / "both.tif", -1).tiff[33550][2] == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("orientation", [2, 6])
def test_a_turned_geotiff_is_refused(orientation, tmp_path):
    path = write_tiff(tmp_path / "a.tif", GEO | {274: (3, orientation)})
    with pytest.raises(
        UserError, match=f"a.tif: GeoTIFF with orientation {orientation}: must be 1"
    ) as e:
        read_tags(path)
    assert e.value.code == BAD_DATA


def test_a_turned_tiff_has_its_resolutions_turned(tmp_path):
    fields = {n: GEO[n] for n in (282, 283, 296)}
    assert read_tags(write_tiff(tmp_path / "a.tif", fields | {274: (3, 3)})).tiff[282][2] == (
        300,
        1,
    )
    assert read_tags(write_tiff(tmp_path / "b.tif", fields | {274: (3, 8)})).tiff[282][2] == (
        150,
        1,
    )


def test_big_endian_tags_keep_their_values(tmp_path):
    fields = {n: GEO[n] for n in (33550, 33922, 34735, 34737)}
    little = write_tiff(tmp_path / "little.tif", fields)
    file, tags = tmp_path / "big.tif", read_tags(little).tiff
    extra = [(code, *field, True) for code, field in tags.items()]
    tifffile.imwrite(file, PIXELS["8 bit"], byteorder=">", extratags=extra, metadata=None)
    assert file.read_bytes()[:2] == b"MM"
    save(tmp_path / "map.tif", PIXELS["16 bit"], read_tags(file))
    for code in fields:
        assert entries(tmp_path / "map.tif")[code] == entries(little)[code]


@pytest.mark.parametrize("odd", [{282: (5, 0.0)}, {296: (3, 9)}, {283: (12, 2.5)}])
def test_an_odd_resolution_is_left_out(odd, tmp_path):
    source = write_tiff(tmp_path / "source.tif", GEO | odd)
    assert read_tags(source).tiff.keys() == GEO.keys() - odd.keys()
    save(tmp_path / "map.tif", PIXELS["8 bit"], read_tags(source))
    with Image.open(tmp_path / "map.tif") as image:
        np.testing.assert_array_equal(np.asarray(image), PIXELS["8 bit"])


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_dots_per_inch_are_kept(format, tmp_path):
    source = tmp_path / "a"
    Image.fromarray(PIXELS["colour"]).save(source, format, dpi=(300, 150))
    save(tmp_path / "b.png", PIXELS["8 bit"], read_tags(source))
    with Image.open(tmp_path / "b.png") as image:
        assert [round(x) for x in image.info["dpi"]] == [300, 150]


def test_a_turned_photo_has_its_resolutions_turned(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    file = tmp_path / "a.jpg"
    Image.fromarray(PIXELS["colour"]).save(file, dpi=(300, 150), exif=exif)
    assert read_tags(file).dpi == (150, 300)


def test_a_file_without_a_resolution_gives_none(tmp_path):
    Image.fromarray(PIXELS["colour"]).save(tmp_path / "a.png")
    assert read_tags(tmp_path / "a.png") == Tags()
    save(tmp_path / "b.png", PIXELS["8 bit"], read_tags(tmp_path / "a.png"))
    assert b"pHYs" not in (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("broken", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_is_not_written_to_its_end_leaves_the_old_file(broken, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save(path, PIXELS["8 bit"])
    before = path.read_bytes()

    def half(self, temporary, **options):
        temporary.write_bytes(b"half")
        raise broken

    monkeypatch.setattr(Image.Image, "save", half)
    wanted = KeyboardInterrupt if isinstance(broken, KeyboardInterrupt) else UserError
    with pytest.raises(wanted) as error:
        save(path, PIXELS["16 bit"])
    if wanted is UserError:
        said = f"{path}: cannot be written: No space left on device ("
        assert str(error.value).startswith(said)
        assert error.value.code == CANNOT_WRITE
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_file_where_a_folder_must_be_is_refused(tmp_path):
    (tmp_path / "mask").write_text("")
    with pytest.raises(UserError, match="cannot be written") as error:
        save(tmp_path / "mask" / "a.png", PIXELS["8 bit"])
    assert error.value.code == CANNOT_WRITE


def test_the_pixels_of_a_large_array_are_not_copied():
    """Pillow shares the memory of contiguous arrays of one channel; a copy would be 200 MB more."""
    pixels = np.zeros((64, 64), np.uint16)
    image = Image.fromarray(pixels)
    pixels[:] = 7
    assert image.getpixel((3, 3)) == 7
    image.save(io.BytesIO(), "PNG")
