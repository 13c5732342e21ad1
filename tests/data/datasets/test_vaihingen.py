"""The Vaihingen builder on 168 made-up pairs of the official shape and names."""

import os
import random
import shutil

import numpy as np
import pytest
import tfds_calls
from PIL import Image
from tiny_config import config_of

from segdiff_jax import errors
from segdiff_jax.config import validate
from segdiff_jax.data.datasets import registry, vaihingen
from segdiff_jax.data.image_io.headers import Limits

NUMBERS = range(1, 169)
PATCH = 48  # side of the detailed middle of each image, pixels
NAMES = sorted(f"building_{number:03d}" for number in NUMBERS)  # as text
OPTIONS = {"resize": "authors", "limits": Limits()}


def picture(number):
    """One colour and, in the middle, noise in which every pixel counts."""
    generator = np.random.default_rng(number)
    image = np.full((512, 512, 3), generator.integers(0, 256, 3), np.uint8)
    image[200 : 200 + PATCH, 240 : 240 + PATCH] = generator.integers(0, 256, (PATCH, PATCH, 3))
    return image


def truth(number):
    """A building with a frayed outline, {0, 1}."""
    mask = np.zeros((512, 512), np.uint8)
    mask[230:300, 250:330] = 1
    patch = np.random.default_rng(1000 + number).random((PATCH, PATCH)) < 0.4
    mask[200 : 200 + PATCH, 240 : 240 + PATCH] = patch
    return mask


# How a mask may be written: value of the foreground, compression, 0 if white is zero.
WAYS = {
    "bits": (True, "tiff_ccitt", 0),  # as MATLAB writes a logical array, one bit a pixel
    "other bits": (True, "tiff_ccitt", 1),
    "bytes": (255, "tiff_lzw", 1),
    "ones": (1, "tiff_lzw", 1),
}


def write(folder, number, way):
    top, compression, photometric = WAYS[way]
    mask = truth(number).astype(bool) if top is True else truth(number) * np.uint8(top)
    file = folder / f"building_mask_{number:03d}.tif"
    Image.fromarray(mask).save(file, compression=compression, tiffinfo={262: photometric})


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """The folder as published: padded names, written in no order, beside what is not read."""
    folder = tmp_path_factory.mktemp("vaihingen") / "buildings"
    folder.mkdir()
    for number in random.Random(0).sample(NUMBERS, len(NUMBERS)):
        image = Image.fromarray(picture(number))
        image.save(folder / f"building_{number:03d}.tif", compression="tiff_lzw")
        write(folder, number, "bits")
        (folder / f"all_buildings_mask_{number:03d}.tif").touch()
    (folder / "polygons.csv").touch()
    (folder / "._building_001.tif").touch()
    return folder


@pytest.fixture
def copy(official, tmp_path):
    """A copy in which a test may add and take files, but not write into those there are."""
    return shutil.copytree(official, tmp_path / "copy", copy_function=os.link)


def source(folder, home="", resize="authors"):
    options = OPTIONS | {"resize": resize}
    return registry.Source("vaihingen", str(folder), str(home), options)


@pytest.fixture(scope="session")
def ways(official, tmp_path_factory):
    """A folder of some of the pairs for each way in which the masks may be written."""
    folders = {"bits": official}
    for way in ("other bits", "bytes", "ones"):
        folders[way] = tmp_path_factory.mktemp("masks")
        for number in range(94, 112):
            name = f"building_{number:03d}.tif"
            os.link(official / name, folders[way] / name)
            write(folders[way], number, way)
    return folders


@pytest.fixture(scope="session")
def prepared(official, tmp_path_factory):
    home = tmp_path_factory.mktemp("prepared")
    assert source(official, home).prepare() == {"train": 80, "validation": 20, "test": 68}
    return source("", home)


def plan(folder, resize="authors"):
    return vaihingen.Vaihingen.plan(folder, OPTIONS | {"resize": resize})


def read(items):
    """Yields the number, the image and the mask of each example."""
    for item in items:
        for name, record in item.read():
            assert record["name"] == name
            yield int(name[-3:]), np.array(record["image"]), np.array(record["mask"])


def problems(folder):
    return source(folder).problems()


def blocks(array):
    """[512, 512, ...] -> [256, 256, 4, ...], the four pixels of each block of 2x2."""
    corners = [array[i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return np.stack(corners, 2).astype(int)


def test_the_lists_are_the_first_100_official_names_and_the_last_68():
    splits = {k: [f"building_{n:03d}" for n in v] for k, v in vaihingen.SPLITS.items()}
    assert sorted(splits["train"] + splits["validation"]) == NAMES[:100]
    assert splits["validation"] == NAMES[4:100:5]
    assert splits["test"] == NAMES[100:]
    assert [len(splits[k]) for k in ("train", "validation", "test")] == [80, 20, 68]


def test_names_without_padding_sorted_as_text_would_give_a_test_set_of_other_images():
    unpadded = sorted(NUMBERS, key=lambda number: f"building_{number}.tif")
    assert sorted(unpadded[100:]) == [*range(4, 10), *range(38, 100)]
    assert not set(unpadded[100:]) & set(vaihingen.SPLITS["test"])


def test_the_prepared_splits_are_the_lists(prepared):
    names = {k: [e.name for e in prepared.load(k)] for k in ("train", "validation", "test")}
    assert names["train"] == [n for n in NAMES[:100] if n not in NAMES[4:100:5]]
    assert names["validation"] == NAMES[4:100:5]
    assert names["test"] == NAMES[100:]
    assert [e.name for e in prepared.load("train+validation")][80:] == NAMES[4:100:5]


@pytest.mark.parametrize("ending", [".tif", ".TIF", ".tiff"])
def test_names_without_padding_give_the_same_examples(official, tmp_path, ending):
    for number in random.Random(1).sample(NUMBERS, len(NUMBERS)):
        for kind in ("building_", "building_mask_"):
            os.link(official / f"{kind}{number:03d}.tif", tmp_path / f"{kind}{number}{ending}")
    padded, unpadded = plan(official), plan(tmp_path)
    assert unpadded.problems == padded.problems == ()
    assert list(unpadded.splits) == ["train", "validation", "test"]
    for split, items in padded.splits.items():
        inodes = [[file.stat().st_ino for file in item.files] for item in items]
        assert inodes == [[f.stat().st_ino for f in i.files] for i in unpadded.splits[split]]
        (first, *_), (again, *_) = items[0].read(), unpadded.splits[split][0].read()
        assert first[0] == again[0]


def test_the_order_of_the_directory_does_not_matter(official, monkeypatch):
    def files():
        splits = plan(official).splits
        return {k: [item.files for item in items] for k, items in splits.items()}

    expected = files()
    listing = list(official.iterdir())
    random.Random(2).shuffle(listing)
    monkeypatch.setattr(type(official), "iterdir", lambda path: iter(listing))
    assert files() == expected


def test_the_folder_or_the_one_that_holds_it_may_be_named(official):
    assert problems(official) == problems(official.parent) == []


def test_the_lists_are_kept_with_the_prepared_set(official):
    notes = plan(official).notes
    assert notes["resize"] == "authors"
    assert [f"building_{n:03d}" for n in notes["test"]] == NAMES[100:]
    assert sorted(notes["train"] + notes["validation"]) == list(range(1, 101))


@pytest.mark.parametrize("way", WAYS)
def test_the_authors_take_every_second_pixel_and_half_a_unit_of_the_mask(ways, way):
    splits = plan(ways[way], "authors").splits
    needed = 2 if way == "ones" else 1  # of four pixels, for a mean of at least 0.5
    for number, image, mask in read(splits["validation"] + splits["test"]):
        np.testing.assert_array_equal(image, picture(number)[::2, ::2])
        np.testing.assert_array_equal(mask, blocks(truth(number)).sum(2) >= needed)


@pytest.mark.parametrize("way", WAYS)
def test_by_area_the_image_is_averaged_and_the_majority_is_foreground(ways, way):
    splits = plan(ways[way], "area").splits
    for number, image, mask in read(splits["validation"] + splits["test"]):
        assert np.abs(image - blocks(picture(number)).sum(2) / 4).max() <= 0.5
        np.testing.assert_array_equal(mask, blocks(truth(number)).sum(2) >= 2)


def test_the_prepared_examples_are_what_was_read(official, prepared):
    for (_, image, mask), example in zip(
        read(plan(official).splits["test"]), prepared.load("test"), strict=True
    ):
        assert image.shape == (256, 256, 3) and mask.shape == (256, 256)
        np.testing.assert_array_equal(example.image, image)
        np.testing.assert_array_equal(example.mask, mask)
        assert (example.box, example.group) == (None, "")


def test_the_two_ways_of_resizing_are_prepared_apart():
    for resize in ("authors", "area"):
        options = {"resize": resize}
        assert vaihingen.Vaihingen.variants(None, options) == {resize: options}


def test_a_missing_file_and_a_file_without_its_partner_are_a_line_each(copy):
    for name in ("building_007.tif", "building_mask_007.tif", "building_mask_050.tif"):
        (copy / name).unlink()
    (copy / "building_168.tif").unlink()
    assert problems(copy) == [
        f"{copy / 'building_007.tif'}: missing, and so is building_mask_007.tif; "
        "all 168 are needed",
        f"{copy / 'building_050.tif'}: its mask building_mask_050.tif is missing",
        f"{copy / 'building_mask_168.tif'}: its image building_168.tif is missing",
    ]


def test_a_number_given_twice_or_out_of_range_is_a_line_each(copy):
    for name in ("building_0.tif", "building_1.tif", "building_169.tif"):
        os.link(copy / "building_002.tif", copy / name)
    os.link(copy / "building_mask_002.tif", copy / "building_mask_0099.tif")
    assert sorted(problems(copy)) == [
        f"{copy / 'building_0.tif'}: number 0; allowed are 1 to 168",
        f"{copy / 'building_1.tif'}: number 1 again, beside building_001.tif",
        f"{copy / 'building_169.tif'}: number 169; allowed are 1 to 168",
        f"{copy / 'building_mask_099.tif'}: number 99 again, beside building_mask_0099.tif",
    ]


@pytest.mark.parametrize("name", ["building_010.tif", "building_mask_160.tif"])
@pytest.mark.parametrize("size", [(256, 256), (512, 511)])  # (width, height)
def test_another_size_than_512_is_refused_with_both_sizes(copy, name, size):
    mode, colour = ("L", 255) if "mask" in name else ("RGB", (1, 2, 3))
    (copy / name).unlink()
    Image.new(mode, size, colour).save(copy / name)
    (line,) = problems(copy)
    assert str(copy / name) in line
    assert f"{size[1]}x{size[0]}" in line and "512x512" in line


def test_a_mask_without_a_building_is_refused(copy):
    file = copy / "building_mask_001.tif"
    file.unlink()
    Image.new("L", (512, 512)).save(file)
    assert problems(copy) == [f"{file}: holds no building; every official mask does"]


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read_on(copy):
    for name in ("building_011.tif", "building_mask_120.tif"):
        (copy / name).unlink()
        (copy / name).write_bytes(b"")
    lines = problems(copy)
    assert len(lines) == 2
    assert "building_011.tif" in lines[0] and "building_mask_120.tif" in lines[1]


def test_a_set_with_a_problem_is_not_prepared(copy, tmp_path):
    (copy / "building_mask_003.tif").unlink()
    with pytest.raises(errors.UserError, match="building_mask_003.tif is missing") as caught:
        source(copy, tmp_path / "prepared").prepare()
    assert caught.value.code == errors.BAD_DATA and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_a_folder_of_something_else_is_refused_with_where_to_get_the_files(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.UserError, match="github.com/dmarcosg/DSAC") as caught:
        problems(tmp_path / name)
    assert caught.value.code == errors.BAD_DATA and "\n" not in str(caught.value)


def test_the_config_is_the_authors_settings():
    config = config_of("vaihingen")
    validate.check(config)
    assert config.data.train_split == "train+validation" and not config.data.validation_split
    np.testing.assert_allclose(config.data.mean, [120.7215, 73.4178, 72.6930], atol=1e-4)
    np.testing.assert_allclose(config.data.std, [57.7462, 38.9543, 35.8790], atol=1e-4)
    a, m = config.augment, config.model
    assert (a.crop, a.horizontal_flip, a.vertical_flip) == (0, True, True)
    assert (a.rotate, a.scale, a.jitter) == (360.0, (0.75, 1.5), (0.6, 0.5, 0.4, 0.025))
    assert (m.dropout, m.rrdb_blocks, m.multipliers) == (0.1, 6, (1, 1, 1, 2, 2, 4, 4))
    assert (m.channels, m.attention_factors, config.train.batch_size) == (128, (16, 32), 8)
    assert config.vaihingen.resize == "authors" and config.sampling.generations == 9


def test_the_small_config_chooses_on_the_images_held_out():
    config = config_of("vaihingen", "small")
    validate.check(config)
    assert (config.data.train_split, config.data.validation_split) == ("train", "validation")


def test_another_argument_of_the_config_is_refused():
    with pytest.raises(errors.UserError, match="must be small"):
        config_of("vaihingen", "large")


def test_tfds_own_calls_prepare_and_load_the_same(official, prepared, tmp_path):
    tfds_calls.check("vaihingen", source(official, prepared.prepared_dir), tmp_path, official)
