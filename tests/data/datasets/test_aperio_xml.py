"""Aperio annotations: which pixels an outline covers, and which files are refused."""

import numpy as np
import pytest

from segdiff_jax import errors
from segdiff_jax.data.datasets import aperio_xml


def write(path, *outlines, negative=()):
    regions = "".join(
        f'<Region Id="{i}" NegativeROA="{int(i in negative)}"><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in outline)
        + "</Vertices></Region>"
        for i, outline in enumerate(outlines)
    )
    path.write_text(
        f'<Annotations MicronsPerPixel="0.252"><Annotation Id="1"><Regions>{regions}</Regions>'
        "</Annotation></Annotations>"
    )
    return path


def mask_of(*outlines, height=40, width=50):
    regions = [aperio_xml.Region(np.array(outline, float), False) for outline in outlines]
    return aperio_xml.semantic_mask(regions, height, width)


def winds_around(outline, height, width):
    """Independent of the code: the angles under which a pixel centre sees the edges sum to 2 pi."""
    y, x = np.mgrid[:height, :width] + 0.5
    corners = [(cx - x) + 1j * (cy - y) for cx, cy in outline]
    turns = [
        np.angle(after / before)
        for before, after in zip(corners, corners[1:] + corners[:1], strict=True)
    ]
    return np.abs(np.sum(turns, axis=0)) > np.pi


@pytest.mark.parametrize("seed", range(20))
def test_a_mask_has_the_pixels_whose_centres_the_outline_winds_around(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 30))
    radius = rng.uniform(3, 24, 30)  # some reach over the border of the image
    outline = np.stack([25 + radius * np.cos(angles), 20 + radius * np.sin(angles)], axis=1)
    if seed % 2:
        outline = outline[::-1]  # drawn the other way round
    expected = winds_around(outline.tolist(), 40, 50)
    assert expected.sum() > 50
    np.testing.assert_array_equal(mask_of(outline), expected)


def test_a_rectangle_between_pixels_covers_exactly_these_pixels():
    expected = np.zeros((40, 50), np.uint8)
    expected[5:9, 10:17] = 1
    np.testing.assert_array_equal(mask_of([(10, 5), (17, 5), (17, 9), (10, 9)]), expected)


def test_centres_on_a_left_or_upper_edge_are_inside_and_on_a_right_or_lower_one_outside():
    mask = mask_of([(10.5, 5.5), (17.5, 5.5), (17.5, 9.5), (10.5, 9.5)])
    expected = np.zeros_like(mask)
    expected[5:9, 10:17] = 1
    np.testing.assert_array_equal(mask, expected)


def test_outlines_with_a_common_edge_share_no_pixel_and_leave_no_gap():
    corners = [(3, 2), (45.5, 7.5), (40, 36), (8.25, 30.5)]
    lower = mask_of([corners[0], corners[1], corners[2]])
    upper = mask_of([corners[0], corners[2], corners[3]])
    assert not (lower & upper).any()
    np.testing.assert_array_equal(lower | upper, mask_of(corners))


def test_overlapping_outlines_are_united_and_one_that_crosses_itself_is_even_odd():
    square = [(10, 10), (20, 10), (20, 20), (10, 20)]
    shifted = [(15, 15), (25, 15), (25, 25), (15, 25)]
    assert mask_of(square, shifted).sum() == 175
    twice = square + square  # runs around the same square two times
    assert mask_of(twice).sum() == 0


def test_many_edges_are_filled_as_few_are():
    corners = np.array([(5.0, 5.0), (45.0, 8.0), (40.0, 35.0), (8.0, 30.0)])
    between = np.linspace(0, 1, 2500, endpoint=False)[:, None]
    steps = np.roll(corners, -1, axis=0) - corners
    fine = (corners[:, None] + between * steps[:, None]).reshape(-1, 2)
    assert len(fine) > 2 * aperio_xml.MAX_EDGES_PER_PASS
    np.testing.assert_array_equal(mask_of(fine), mask_of(corners))


def test_an_outline_outside_of_the_image_covers_nothing():
    assert mask_of([(60, 5), (70, 5), (70, 9)], [(-9, -9), (-1, -9), (-1, -1)]).sum() == 0


def test_a_negative_outline_cuts_a_hole(tmp_path):
    square = [(10, 10), (20, 10), (20, 20), (10, 20)]
    hole = [(12, 12), (14, 12), (14, 14), (12, 14)]
    file = write(tmp_path / "a.xml", hole, square, negative=[0])
    assert aperio_xml.semantic_mask(aperio_xml.regions(file), 40, 50).sum() == 96


def test_slips_of_the_pen_are_left_out(tmp_path):
    square = [(10, 10), (20, 10), (20, 20), (10, 20)]
    outlines = aperio_xml.regions(write(tmp_path / "a.xml", [], [(1, 1)], [(1, 1), (2, 2)], square))
    assert len(outlines) == 1
    np.testing.assert_array_equal(outlines[0].vertices, square)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb">]><Annotations>&b;</Annotations>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<Annotations><Annotation>", "not readable XML"),
        ("", "not readable XML"),
        ("\x00\x01", "not readable XML"),
        ('<?xml version="1.0" encoding="nonsense"?><Annotations/>', "not readable XML"),
        (BOMB, "DTD or entities"),
        ('<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><Annotations/>', "DTD or entities"),
        ("<Annotations/>", "holds no <Region>"),
        ('<Region><Vertex X="1" Y="a"/></Region>', "not two numbers in region 1"),
        ('<Region><Vertex X="1"/></Region>', "not two numbers in region 1"),
        ('<Region><Vertex X="nan" Y="1"/></Region>', "beyond"),
        ('<Region><Vertex X="1" Y="-1e300"/></Region>', "beyond"),
    ],
)
def test_a_bad_annotation_is_named_in_one_line(tmp_path, text, expected):
    file = tmp_path / "bad one.xml"
    file.write_text(text)
    with pytest.raises(errors.UserError) as caught:
        aperio_xml.regions(file)
    assert str(file) in str(caught.value) and expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.code == errors.BAD_DATA


def test_an_annotation_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    file = write(tmp_path / "a.xml", [(1, 1), (2, 1), (2, 2)])
    monkeypatch.setattr(aperio_xml, "MAX_BYTES", 100)
    with pytest.raises(errors.UserError, match="at most 100 are read"):
        aperio_xml.regions(file)
