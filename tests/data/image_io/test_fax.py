"""CCITT fax data are read as libtiff writes them, and refused where libtiff finds them damaged."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from segdiff_jax.data.image_io import masks
from segdiff_jax.errors import UserError

CODINGS = ("group4", "group3", "tiff_ccitt")
T4_OPTIONS, FILL_ORDER, ROWS_PER_STRIP = 292, 266, 278
TAGS = {
    "plain": {},
    "strips": {ROWS_PER_STRIP: 3},
    "low bit first": {FILL_ORDER: 2},
    "2-D": {T4_OPTIONS: 1},
    "2-D, ends aligned": {T4_OPTIONS: 5},
    "ends aligned": {T4_OPTIONS: 4},
}
WIDTHS = (1, 7, 64, 65, 1728, 1729, 2561, 5300)  # each code of a run occurs


def written(mask, coding, tags):
    """Returns a TIFF that libtiff writes, through Pillow."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "TIFF", compression=coding, tiffinfo=tags)
    return file.getvalue()


def picture(rng, width):
    """Returns a mask of runs of about 1, 40 or 1,000 pixels."""
    share = rng.choice([0.5, 0.03, 0.001])
    return np.cumsum(rng.random((int(rng.integers(1, 12)), width)) < share, axis=1) % 2 > 0


WRITTEN = [
    (coding, kind)
    for coding in CODINGS
    for kind in TAGS
    if coding == "group3" or T4_OPTIONS not in TAGS[kind]
]


@pytest.mark.parametrize(("coding", "kind"), WRITTEN)
def test_masks_are_read_as_libtiff_wrote_them(tmp_path, coding, kind):
    rng = np.random.default_rng(len(kind))
    for width in WIDTHS * 3:
        mask = picture(rng, width)
        (tmp_path / "m.tif").write_bytes(written(mask, coding, TAGS[kind]))
        with tifffile.TiffFile(tmp_path / "m.tif") as file:
            for tag, value in TAGS[kind].items():
                assert file.pages[0].tags[tag].value == value, kind
        np.testing.assert_array_equal(masks.read_mask(tmp_path / "m.tif").pixels, mask)


def complains(data, capfd):
    """Returns whether libtiff refuses a file or says something of it."""
    try:
        Image.open(io.BytesIO(data)).load()
    except OSError:
        return True
    return "Fax" in capfd.readouterr().err


@pytest.mark.parametrize("coding", CODINGS)
def test_what_libtiff_complains_of_is_refused(tmp_path, capfd, coding):
    """Flips every bit of the codes; those that make other codes of the same width are unseen."""
    mask = np.zeros((12, 40), bool)
    mask[2:10, 7:25], mask[4:6, 12:20] = True, False
    good = written(mask, coding, {})
    with tifffile.TiffFile(io.BytesIO(good)) as file:
        (start,), (size,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
    complaints = refused = 0
    for place in range(8 * start, 8 * (start + size)):
        data = bytearray(good)
        data[place // 8] ^= 1 << place % 8
        (tmp_path / "m.tif").write_bytes(data)
        told = complains(bytes(data), capfd)
        try:
            masks.read_mask(tmp_path / "m.tif")
            assert not told, place
        except UserError as error:
            assert "has damaged CCITT fax data (" in str(error), error
            refused += 1
        complaints += told
    assert refused >= complaints > 0
    assert refused > 4 * size  # half of the flips; libtiff sees fewer


def test_data_that_end_early_are_refused(tmp_path):
    good = written(np.eye(32, dtype=bool), "group4", {})
    with tifffile.TiffFile(io.BytesIO(good)) as file:
        page = file.pages[0]
        data = bytearray(good)
        place = page.tags["StripByteCounts"].valueoffset
        count = page.databytecounts[0] // 2
    data[place : place + 4] = count.to_bytes(4, "little")
    (tmp_path / "m.tif").write_bytes(data)
    with pytest.raises(UserError, match="damaged CCITT fax data"):
        masks.read_mask(tmp_path / "m.tif")
