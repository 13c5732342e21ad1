"""Images of named channels are predicted, shown as composites, or refused with one line."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from stand_in import StandIn, run_of

from segdiff_jax import predict
from segdiff_jax.cli.predict_args import parse
from segdiff_jax.data.composite import composite
from segdiff_jax.data.image_io import reading
from segdiff_jax.errors import UserError
from segdiff_jax.prediction.rescaling import picture

NAMES = ("DAPI", "FITC", "TRITC", "Cy5")
IMAGE = np.zeros((20, 30, 4), np.uint8)
IMAGE[5:15, 8:20], IMAGE[..., 3] = 255, 90


def test_a_picture_of_another_number_of_channels_fails_alone_with_one_line(tmp_path):
    run = run_of(tmp_path)
    (folder := tmp_path / "images").mkdir()
    stored = {"photometric": "minisblack", "planarconfig": "separate"}
    tifffile.imwrite(folder / "a.tif", np.moveaxis(IMAGE, -1, 0), **stored)
    Image.fromarray(IMAGE[..., :3]).save(folder / "b.png")
    model = StandIn(whole=True)
    model.channel_names = NAMES
    words = [f"--workdir={run}", f"--input={folder}", f"--output={tmp_path / 'out'}"]
    with pytest.raises(UserError, match="1 of 2 images done; 1 failed") as caught:
        predict.predict(parse(words), model)
    (line,) = caught.value.details
    assert line == (
        f"{folder / 'b.png'}: has 3 channels; allowed are the 4 of config.data.channels: "
        "DAPI, FITC, TRITC, Cy5"
    )
    mask = tifffile.imread(tmp_path / "out/mask/a.tif")
    np.testing.assert_array_equal(mask > 0, IMAGE[..., 0] > 0)
    drawn = tifffile.imread(tmp_path / "out/overlay/a.tif")
    np.testing.assert_array_equal(drawn[0, 0], composite(IMAGE)[0, 0])
    assert drawn.shape == (20, 30, 3)


def test_arrays_of_numpy_are_predicted_as_tiff_of_the_same_values_is(tmp_path):
    run = run_of(tmp_path)
    (folder := tmp_path / "images").mkdir()
    stored = {"photometric": "minisblack", "planarconfig": "separate"}
    tifffile.imwrite(folder / "a.tif", np.moveaxis(IMAGE, -1, 0), **stored)
    np.save(folder / "b.npy", IMAGE)
    np.save(folder / "c.npy", np.array([{}], object), allow_pickle=True)
    model = StandIn(whole=True)
    model.channel_names = NAMES
    words = [f"--workdir={run}", f"--input={folder}", f"--output={tmp_path / 'out'}"]
    with pytest.raises(UserError, match="2 of 3 images done; 1 failed") as caught:
        predict.predict(parse([*words, "--outputs=labels,rois"]), model)
    (line,) = caught.value.details
    assert line.startswith(f"{folder / 'c.npy'}: holds Python objects; allowed are integers")
    for place, end in (("mask", ".png"), ("overlay", ".png"), ("labels", ".tif")):
        expected = tifffile.imread(tmp_path / "out" / place / "a.tif")
        found = reading.decode(tmp_path / "out" / place / f"b{end}").values
        np.testing.assert_array_equal(found, expected, place)


def test_channels_are_brought_to_another_scale_each_by_itself():
    large = picture(IMAGE, 2.0)
    assert large.shape == (40, 60, 4)
    for k in range(4):
        three = np.repeat(IMAGE[..., k : k + 1], 3, axis=-1)
        np.testing.assert_array_equal(large[..., k], picture(three, 2.0)[..., 0])
