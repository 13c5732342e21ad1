"""How large pixels are, by files that other programs write."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from segdiff_jax.data.image_io.pixel_size import Scale, micrometres, read

PIXELS = np.zeros((4, 6), np.uint8)
KEYS = (1, 1, 0)


def size(path):
    scale = read(path)
    return None if scale is None else (scale.unit, scale.matrix[0][0], scale.matrix[1][1])


def geotiff(path, tags, *keys):
    numbers = (*KEYS, len(keys), *(n for key, value in keys for n in (key, 0, 1, value)))
    fields = [(code, 12, len(values), values, True) for code, values in tags.items()]
    tifffile.imwrite(
        path, PIXELS, extratags=[*fields, (34735, 3, len(numbers), numbers, True)], metadata=None
    )
    return read(path)


PLACED = {33550: (2.0, 3.0, 0.0), 33922: (1.0, 2.0, 0.0, 100.0, 200.0, 0.0)}


def test_a_tie_point_and_the_size_of_pixels_place_a_map(tmp_path):
    scale = geotiff(tmp_path / "a.tif", PLACED, (1024, 1), (3072, 2154), (3076, 9001))
    assert scale == Scale("m", ((2, 0, 98), (0, -3, 206)), 2154, True)
    np.testing.assert_array_equal(scale.place(np.array([[1, 2], [0, 0]])), [[100, 200], [98, 206]])
    assert scale.pixel_area == 6


def test_lengths_are_micrometres_and_degrees_and_unknown_units_are_none():
    for unit, expected in (("um", 2), ("m", 2e6), ("ft", 609_600), ("us-ft", 609_601.2192)):
        turned = Scale(unit, ((0.0, 1.0, 5.0), (-4.0, 0.0, 7.0)))  # of 1 x 4: 2 x 2 of that area
        assert micrometres(turned) == pytest.approx(expected, rel=1e-9)
    for unit in ("degree", "map unit"):
        assert micrometres(Scale(unit, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))) is None
    assert micrometres(None) is None


def test_where_a_pixel_is_a_point_its_centre_is_placed(tmp_path):
    scale = geotiff(tmp_path / "a.tif", PLACED, (1024, 1), (1025, 2))
    assert scale == Scale("map unit", ((2, 0, 97), (0, -3, 207.5)), None, True)


def test_a_matrix_may_turn_a_map(tmp_path):
    rows = (0.0, 2.0, 0.0, 5.0, 3.0, 0.0, 0.0, 7.0, *[0.0] * 4, 0.0, 0.0, 0.0, 1.0)
    scale = geotiff(tmp_path / "a.tif", {34264: rows}, (1024, 1), (3072, 32633))
    assert scale == Scale("m", ((0, 2, 5), (3, 0, 7)), 32633, True) and scale.pixel_area == 6


def test_degrees_are_no_lengths(tmp_path):
    scale = geotiff(tmp_path / "a.tif", PLACED, (1024, 2), (2048, 4326))
    assert scale is not None and (scale.unit, scale.epsg) == ("degree", 4326)
    assert np.isnan(scale.pixel_area)


def test_ome_counts_before_the_resolution(tmp_path):
    meta = {"axes": "YX", "PhysicalSizeX": 325, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.65}
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, PIXELS, metadata=meta, resolution=(1e4, 1e4), resolutionunit=3)
    unit, x, y = size(path)
    assert unit == "um" and (x, y) == (pytest.approx(0.325, rel=1e-12), 0.65)


def test_imagej_says_its_unit(tmp_path):
    for unit, um in {"micron": 1, "\\u00B5m": 1, "nm": 1e-3, "mm": 1e3}.items():
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, PIXELS, imagej=True, resolution=(4, 2), metadata={"unit": unit})
        assert size(path) == ("um", 0.25 * um, 0.5 * um)


def test_a_resolution_counts_unless_it_is_one_for_printing(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, resolution=(20000, 10000), resolutionunit=3, metadata=None)
    assert size(path) == ("um", 0.5, 1)
    for dots in (72, 300, 1200):
        tifffile.imwrite(path, PIXELS, resolution=(dots, dots), resolutionunit=2, metadata=None)
        assert size(path) is None
    tifffile.imwrite(path, PIXELS, resolution=(20000, 10000), resolutionunit=1, metadata=None)
    assert size(path) is None


def test_a_png_has_dots_per_inch(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png", dpi=(25400, 12700))
    unit, x, y = size(tmp_path / "a.png")
    assert unit == "um" and abs(x - 1) < 1e-4 and abs(y - 2) < 1e-4  # stored as dots a metre
    Image.fromarray(PIXELS).save(tmp_path / "b.png", dpi=(72, 72))
    Image.fromarray(PIXELS).save(tmp_path / "c.png")
    assert size(tmp_path / "b.png") is size(tmp_path / "c.png") is None


def test_a_turned_image_has_its_sides_exchanged(tmp_path):
    path, turn = tmp_path / "a.tif", [(274, 3, 1, 6, True)]
    tifffile.imwrite(
        path, PIXELS, resolution=(20000, 10000), resolutionunit=3, metadata=None, extratags=turn
    )
    assert size(path) == ("um", 1, 0.5)


def test_damaged_metadata_say_nothing(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, description="<OME ><Pixels", metadata=None)
    assert size(path) is None
    assert geotiff(path, {33550: (0.0, 0.0, 0.0), 33922: PLACED[33922]}, (1024, 1)) is None
    assert geotiff(path, {33550: (np.nan, 1.0, 0.0), 33922: PLACED[33922]}, (1024, 1)) is None
