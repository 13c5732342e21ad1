"""Masks of several annotators, and masks beside their images: found, stored, or named."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from image_files import GREY, RGB, png
from tiny_config import config_of

from segdiff_jax import errors
from segdiff_jax.data.datasets import base, folder_layout, registry
from segdiff_jax.data.datasets.folder import Folder
from segdiff_jax.data.image_io.headers import Limits

OPTIONS = {"mask_suffix": "", "validation_share": 0.0, "test_share": 0.0, "seed": 0}
OPTIONS |= {"limits": Limits(), "foreground": "auto"}
NAMES = ("Image_01L", "Image_01R", "b.2")
RNG = np.random.default_rng(0)
IMAGES = {name: RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8) for name in NAMES}
MASKS = {name: RNG.integers(0, 2, (3, 6, 8)).astype(np.uint8) for name in NAMES}
MASKS["b.2"][2] = 0  # this annotator saw nothing


def write(path, pixels, colour=GREY):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels, colour))


def suffixes(home, annotators):
    for name in NAMES:
        write(home / f"images/{name}.png", IMAGES[name], RGB)
        for k in range(annotators):
            write(home / f"masks/{name}_{k}HO.png", 255 * MASKS[name][k])


def numbered(home, annotators):
    for name in NAMES:
        write(home / f"images/{name}.png", IMAGES[name], RGB)
        for k in range(annotators):
            write(home / f"masks_{9 + k}/{name}.png", 255 * MASKS[name][k])  # 10 follows 9


def objects(home, annotators):
    suffixes(home, annotators)
    for name in NAMES:
        for k in range(annotators):
            (home / f"masks/{name}_{k}HO.png").unlink()
            parts = np.stack([MASKS[name][k]] * 2)
            parts[0, 3:] = parts[1, :3] = 0
            for i, part in enumerate(parts):
                write(home / f"masks/{name}_{k}HO/{i}.png", 255 * part)


def flat(home, annotators):
    for name in NAMES:
        write(home / f"{name}.png", IMAGES[name], RGB)
        for k in range(annotators):
            write(home / f"{name}_{k}HO.png", 255 * MASKS[name][k])


def one_by_one(home, annotators):
    for name in NAMES:
        write(home / name / "images/photo.png", IMAGES[name], RGB)
        for k in range(annotators):
            write(home / name / f"masks_{1 + k}/photo.png", 255 * MASKS[name][k])


def one_by_one_by_suffix(home, annotators):
    for name in NAMES:
        write(home / name / "images/photo.png", IMAGES[name], RGB)
        for k in range(annotators):
            write(home / name / f"masks/by_{k}HO.png", 255 * MASKS[name][k])


def options(layout, annotators):
    named = layout not in (numbered, one_by_one)
    suffix = ",".join(f"_{k}HO" for k in range(annotators)) if named else ""
    return OPTIONS | {"mask_suffix": suffix}


def source(directory, tmp_path, chosen):
    return registry.Source("folder", str(directory), str(tmp_path / "prepared"), chosen)


def lines(directory, **chosen):
    return base.problems_of(Folder.plan(directory, OPTIONS | chosen))


@pytest.mark.parametrize("inside", ["", "archive"])
@pytest.mark.parametrize("annotators", [2, 3])
@pytest.mark.parametrize(
    "layout", [suffixes, numbered, objects, flat, one_by_one, one_by_one_by_suffix]
)
def test_every_annotator_is_read_and_stored(tmp_path, layout, annotators, inside):
    home = tmp_path / "mine"
    layout(home / inside, annotators)
    found = source(home, tmp_path, options(layout, annotators))
    assert found.problems() == []
    examples = found.load("train")
    assert [example.name for example in examples] == sorted(NAMES)
    for example in examples:
        masks = MASKS[example.name][:annotators]
        np.testing.assert_array_equal(example.image, IMAGES[example.name])
        np.testing.assert_array_equal(example.annotations, masks)
        assert example.annotations.dtype == example.mask.dtype == np.uint8
        np.testing.assert_array_equal(example.mask, masks.mean(0) >= 0.5)


@pytest.mark.parametrize("layout", [suffixes, flat, objects])
def test_one_suffix_is_one_annotator(tmp_path, layout):
    layout(tmp_path / "mine", 1)
    for example in source(tmp_path / "mine", tmp_path, options(layout, 1)).load("train"):
        assert example.annotations is None
        np.testing.assert_array_equal(example.mask, MASKS[example.name][0])


def test_folders_of_splits_may_hold_masks_beside_their_images(tmp_path):
    for split in ("train", "test"):
        flat(tmp_path / "mine" / split, 2)
    found = source(tmp_path / "mine", tmp_path, options(flat, 2))
    assert found.prepare() == {"train": 3, "test": 3}


def test_eight_annotators_fit_into_a_set_and_nine_are_refused(tmp_path):
    home, masks = tmp_path / "mine", RNG.integers(0, 2, (9, 6, 8)).astype(np.uint8)
    write(home / "images/a.png", IMAGES["b.2"], RGB)
    for k in range(8):
        write(home / f"masks_{k}/a.png", masks[k])
    (example,) = source(home, tmp_path, OPTIONS).load("train")
    np.testing.assert_array_equal(example.annotations, masks[:8])
    write(home / "masks_8/a.png", masks[8])
    assert (
        f"{home}: has masks of 9 annotators; allowed are 8" in Folder.plan(home, OPTIONS).problems
    )


def test_a_set_of_an_earlier_version_is_read(tmp_path, monkeypatch):
    suffixes(tmp_path / "mine", 1)
    found = source(tmp_path / "mine", tmp_path, options(suffixes, 1))
    features = dict(Folder(data_dir=tmp_path / "none").info.features)
    newer = "annotators", "objects"
    for name in newer:
        del features[name]
    earlier = tfds.features.FeaturesDict(features)
    record = base.record
    with monkeypatch.context() as patch:
        patch.setattr(
            base.SegmentationBuilder,
            "_info",
            lambda self: tfds.core.DatasetInfo(
                builder=self, features=earlier, metadata=tfds.core.MetadataDict()
            ),
        )
        patch.setattr(
            base,
            "record",
            lambda *a, **b: {k: v for k, v in record(*a, **b).items() if k not in newer},
        )
        found.prepare()
    (written,) = (tmp_path / "prepared").rglob("features.json")
    assert "annotators" not in json.loads(written.read_text())["featuresDict"]["features"]
    for example in found.load("train"):
        assert example.annotations is None
        np.testing.assert_array_equal(example.mask, MASKS[example.name][0])


def test_a_missing_mask_of_one_annotator_is_named(tmp_path):
    suffixes(tmp_path / "a", 2)
    (tmp_path / "a/masks/b.2_1HO.png").unlink()
    ends = "the end .png, .jpg, .jpeg, .tif, .tiff, .bmp, .gif, .webp, .npy"
    assert lines(tmp_path / "a", mask_suffix="_0HO,_1HO") == [
        f"{tmp_path / 'a/images/b.2.png'}: its mask is missing; it must be masks/b.2_1HO with "
        f"{ends}, or a folder masks/b.2_1HO"
    ]
    flat(tmp_path / "b", 2)
    (tmp_path / "b/b.2_1HO.png").unlink()
    (tmp_path / "b/Image_01L.png").unlink()
    assert lines(tmp_path / "b", mask_suffix="_0HO,_1HO") == [
        *(
            f"{tmp_path / 'b' / name}: is the mask of no image; none beside it has that name"
            for name in ("Image_01L_0HO.png", "Image_01L_1HO.png")
        ),
        f"{tmp_path / 'b/b.2.png'}: its mask is missing; it must be b.2_1HO with {ends}",
    ]
    one_by_one(tmp_path / "c", 2)
    (tmp_path / "c/Image_01R/masks_2/photo.png").unlink()
    (tmp_path / "c/Image_01R/masks_2").rmdir()
    assert lines(tmp_path / "c") == [
        f"{tmp_path / 'c/Image_01R/images/photo.png'}: has masks of 1 annotators and "
        f"{tmp_path / 'c/Image_01L/images/photo.png'} of 2; allowed is one number for all images"
    ]
    one_by_one_by_suffix(tmp_path / "d", 2)
    (tmp_path / "d/Image_01R/masks/by_1HO.png").rename(tmp_path / "d/Image_01R/masks/by_x.png")
    folder = tmp_path / "d/Image_01R/masks"
    assert lines(tmp_path / "d", mask_suffix="_0HO,_1HO") == [
        f"{folder / 'by_x.png'}: the name of a mask must end in "
        "config.folder.mask_suffix='_0HO,_1HO'",
        f"{folder}: holds no mask that ends in '_1HO'",
    ]


def test_masks_beside_their_images_ask_for_the_suffix_that_their_names_show(tmp_path):
    flat(tmp_path, 2)
    for name in ("b", "Image_01"):  # their names begin others
        write(tmp_path / f"{name}.png", IMAGES["b.2"], RGB)
        for k in range(2):
            write(tmp_path / f"{name}_{k}HO.png", 255 * MASKS["b.2"][k])
    images = folder_layout.find(tmp_path)[""].images
    assert {image.stem for image in images} == {*NAMES, "b", "Image_01"}
    (line,) = lines(tmp_path)
    assert line.startswith(f"{tmp_path}: masks beside their images need config.folder.mask_suffix")
    assert line.endswith("by the names here '_0HO,_1HO'")
    config = config_of("folder", f"{tmp_path},small")
    assert config.data.test_split == "test" and config.augment.crop == 16


def test_images_without_masks_are_no_layout_though_a_name_begins_another(tmp_path):
    for name in ("1", "10", "11"):
        write(tmp_path / f"{name}.png", IMAGES["b.2"], RGB)
    with pytest.raises(errors.UserError, match="holds no images with masks"):
        lines(tmp_path)


def test_the_longer_suffix_takes_the_mask_that_two_end(tmp_path):
    write(tmp_path / "mine/images/a.png", IMAGES["b.2"], RGB)
    for end, mask in (("_m", MASKS["b.2"][0]), ("_2_m", MASKS["b.2"][1])):
        write(tmp_path / f"mine/masks/a{end}.png", mask)
    chosen = OPTIONS | {"mask_suffix": "_m,_2_m"}
    (example,) = source(tmp_path / "mine", tmp_path, chosen).load("train")
    np.testing.assert_array_equal(example.annotations, MASKS["b.2"][:2])


@pytest.mark.parametrize("suffix", ["_a,", ",_a", "_a,_a", "_a,_b,,"])
def test_unclear_suffixes_are_refused(tmp_path, suffix):
    with pytest.raises(errors.UserError, match=f"mask_suffix='{suffix}': .*must differ") as caught:
        Folder.plan(tmp_path, OPTIONS | {"mask_suffix": suffix})
    assert caught.value.code == errors.USAGE


def test_masks_and_numbered_masks_together_are_refused(tmp_path):
    numbered(tmp_path, 2)
    suffixes(tmp_path, 1)
    assert (
        f"{tmp_path}: has masks and masks_10; allowed is masks of one annotator, or masks_1, "
        in (lines(tmp_path)[0])
    )
