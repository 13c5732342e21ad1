"""Images of named channels: every way a TIFF stores them, their scaling, and what is refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from segdiff_jax.data.image_io import bands, value_range
from segdiff_jax.data.image_io.headers import Pixels
from segdiff_jax.errors import UserError

NAMES = ("DAPI", "FITC", "TRITC", "Cy5", "phase")
VALUES = np.random.default_rng(0).integers(0, 256, (9, 13, 5), np.uint8)
APART = np.moveaxis(VALUES, -1, 0)

STORED = {
    "interleaved": (VALUES, {"photometric": "minisblack", "planarconfig": "contig"}),
    "apart": (APART, {"photometric": "minisblack", "planarconfig": "separate"}),
    "ImageJ": (APART[None, None], {"imagej": True, "metadata": {"axes": "TZCYX"}}),
    "OME": (APART, {"ome": True, "metadata": {"axes": "CYX"}, "photometric": "minisblack"}),
    "tiles": (APART, {"planarconfig": "separate", "tile": (16, 16), "photometric": "minisblack"}),
}


@pytest.mark.parametrize("kind", STORED)
def test_every_layout_of_a_tiff_gives_its_channels_in_order(kind, tmp_path):
    values, options = STORED[kind]
    tifffile.imwrite(path := tmp_path / "a.ome.tif", values, **options)
    found = bands.read(path, NAMES)
    np.testing.assert_array_equal(found.pixels, VALUES)
    assert found.values == ""


def test_each_channel_of_more_than_8_bits_has_a_range_of_its_own(tmp_path):
    deep = VALUES.astype(np.uint16) * np.array([1, 3, 15, 60, 257], np.uint16)
    tifffile.imwrite(
        path := tmp_path / "a.tif",
        np.moveaxis(deep, -1, 0),
        photometric="minisblack",
        planarconfig="separate",
    )
    found = bands.read(path, NAMES)
    for k, name in enumerate(NAMES):
        alone = Pixels(deep[..., k], "grey")
        chosen = value_range.find(alone, "auto")
        np.testing.assert_array_equal(found.pixels[..., k], value_range.scaled(alone, chosen))
        assert f"{name} {value_range.describe(alone, chosen)}" in found.values
    np.testing.assert_array_equal(found.pixels[..., 4], VALUES[..., 4])


def test_grey_and_colours_are_channels_where_names_ask_for_them(tmp_path):
    Image.fromarray(VALUES[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        bands.read(tmp_path / "grey.png", ("DIC",)).pixels, VALUES[..., :1]
    )
    Image.fromarray(VALUES[..., :3]).save(tmp_path / "rgb.png")
    found = bands.read(tmp_path / "rgb.png", NAMES[:3])
    np.testing.assert_array_equal(found.pixels, VALUES[..., :3])
    Image.fromarray(VALUES[..., :4]).save(tmp_path / "rgba.png")
    found = bands.read(tmp_path / "rgba.png", NAMES[:4])
    np.testing.assert_array_equal(found.pixels, VALUES[..., :4])


@pytest.mark.parametrize(("count", "named"), [(5, 4), (2, 5), (1, 2)])
def test_another_number_of_channels_is_one_line(count, named, tmp_path):
    path, values = tmp_path / "a.tif", np.moveaxis(VALUES[..., :count], -1, 0)
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="separate")
    channels = "channel" if count == 1 else "channels"
    wanted = rf"a\.tif: has {count} {channels}; allowed are the {named} of config\.data\.channels: "
    with pytest.raises(UserError, match=wanted + ", ".join(NAMES[:named])) as caught:
        bands.read(path, NAMES[:named])
    assert caught.value.code == 65 and "\n" not in str(caught.value)


def test_a_palette_is_no_channel(tmp_path):
    Image.fromarray(VALUES[..., 0]).convert("P").save(tmp_path / "a.png")
    with pytest.raises(UserError, match="has a palette; allowed are the 1 of"):
        bands.read(tmp_path / "a.png", ("DIC",))


def test_an_array_has_its_channels_last():
    np.testing.assert_array_equal(bands.of_array(VALUES, NAMES), VALUES)
    np.testing.assert_array_equal(bands.of_array(VALUES[..., 0], ("DIC",)), VALUES[..., :1])
    np.testing.assert_array_equal(bands.of_array(VALUES / 255.0, NAMES), VALUES)
    assert bands.of_array(VALUES[..., 0], ()).shape == (9, 13, 3)
    with pytest.raises(ValueError, match=r"shape \(5, 9, 13\); allowed are arrays \[H, W, 5\]"):
        bands.of_array(APART, NAMES)
