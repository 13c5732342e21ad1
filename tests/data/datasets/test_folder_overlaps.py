"""Folders whose classes overlap: layouts, what a class without a mask means, what is refused."""

import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_config import config_of

from segdiff_jax.config import validate
from segdiff_jax.config.allowed import CLASS_VALUES
from segdiff_jax.data.classes import members, parse
from segdiff_jax.data.datasets.folder import Folder
from segdiff_jax.data.datasets.inspection import inspect
from segdiff_jax.data.datasets.registry import Source
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import UserError

MASKS = np.zeros((2, 12, 16), np.uint8)
MASKS[0, 1:10, 1:12], MASKS[1, 4:8, 9:15] = 1, 1  # they share 4 x 3 pixels
WITHOUT = np.array([[[1]], [[0]]], np.uint8)  # the lesion
FOLDERS = "organ=masks_organ,lesion=masks_lesion"
ENDS = "organ=_organ,lesion=_lesion"
NAMES = "organ", "lesion"


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def in_folders(home, name, masks):
    save(home / "images" / f"{name}.png", np.full((12, 16, 3), 9, np.uint8))
    for kind, mask in zip(NAMES, masks, strict=True):
        save(home / f"masks_{kind}" / f"{name}.png", mask * np.uint8(255))


def with_additions(home, name, masks):
    save(home / "images" / f"{name}.png", np.full((12, 16, 3), 9, np.uint8))
    save(home / "masks_organ" / f"{name}_OR.png", masks[0] * np.uint8(255))
    save(home / "masks_lesion" / f"{name}_LE.png", masks[1])


def in_one_folder(home, name, masks):
    in_folders(home, name, masks)
    for kind in NAMES:
        place = home / "masks" / f"{name}_{kind}.png"
        place.parent.mkdir(exist_ok=True)
        (home / f"masks_{kind}" / f"{name}.png").rename(place)


def beside(home, name, masks):
    save(home / f"{name}.png", np.full((12, 16, 3), 9, np.uint8))
    for kind, mask in zip(NAMES, masks, strict=True):
        save(home / f"{name}_{kind}.png", mask)


def one_by_one(home, name, masks):
    in_folders(home / name, name, masks)


def objects(home, name, masks):
    in_folders(home, name, masks)
    (home / "masks_organ" / f"{name}.png").unlink()
    for column, part in (("1", slice(0, 6)), ("2", slice(6, 16))):
        own = np.zeros_like(masks[0])
        own[:, part] = masks[0][:, part] * 255
        save(home / "masks_organ" / name / f"{column}.png", own)


def options(text, **more):
    given = {"mask_suffix": "", "foreground": "auto", "classes": text, "limits": Limits()}
    return given | {"validation_share": 0.0, "test_share": 0.0, "seed": 0, **more}


def examples(home, tmp_path, text):
    source = Source("folder", str(home), str(tmp_path / "prepared"), options(text))
    return source.load("train")


LAYOUTS = [
    (in_folders, FOLDERS),
    (with_additions, FOLDERS),
    (one_by_one, FOLDERS),
    (objects, FOLDERS),
    (in_one_folder, ENDS),
    (beside, ENDS),
]


@pytest.mark.parametrize(("layout", "text"), LAYOUTS)
def test_each_class_has_masks_of_its_own_in_any_layout(layout, text, tmp_path):
    for name in ("a1", "b2", "c3"):
        layout(tmp_path / "own", name, MASKS)
    found = examples(tmp_path / "own", tmp_path, text)
    assert len(found) == 3
    for one in found:
        np.testing.assert_array_equal(members(one.classes, 2), MASKS > 0)
        np.testing.assert_array_equal(one.mask, MASKS.max(axis=0))
        assert one.objects is None and one.annotations is None
    swapped = ",".join(reversed(text.split(",")))
    np.testing.assert_array_equal(
        members(examples(tmp_path / "own", tmp_path, swapped)[0].classes, 2), MASKS[::-1] > 0
    )


def test_folders_may_lie_in_one_and_a_class_may_be_alone(tmp_path):
    in_folders(tmp_path / "own", "a", MASKS)
    (tmp_path / "own" / "masks").mkdir()
    (tmp_path / "own" / "masks_lesion").rename(tmp_path / "own" / "masks" / "lesion")
    (one,) = examples(tmp_path / "own", tmp_path, "lesion=masks/lesion")
    np.testing.assert_array_equal(one.mask, MASKS[1])
    np.testing.assert_array_equal(one.classes, MASKS[1])


def test_of_more_than_eight_classes_each_is_kept(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (11, 12, 16), np.uint8)
    save(tmp_path / "own" / "images" / "a.png", np.full((12, 16, 3), 9, np.uint8))
    for k, mask in enumerate(masks):
        save(tmp_path / "own" / f"m{k}" / "a.png", mask)
    (one,) = examples(tmp_path / "own", tmp_path, ",".join(f"c{k}=m{k}" for k in range(11)))
    np.testing.assert_array_equal(members(one.classes, 11), masks > 0)


@pytest.mark.parametrize(("layout", "text"), LAYOUTS)
def test_a_mask_that_is_missing_is_named_unless_a_class_may_be_absent(layout, text, tmp_path):
    home = tmp_path / "own"
    for name in ("a1", "b2", "c3"):
        layout(home, name, MASKS)
    (lost,) = [
        p for p in home.rglob("*") if "b2" in str(p) and "les" in str(p).lower() if p.is_file()
    ]
    lost.unlink()
    if layout is one_by_one:
        lost.parent.rmdir()
    with pytest.raises(UserError, match="b2") as caught:
        examples(home, tmp_path, text)
    assert "lesion" in str(caught.value) and "\n" not in str(caught.value)
    found = examples(home, tmp_path, f"{text}?")
    np.testing.assert_array_equal(members(found[1].classes, 2), MASKS * WITHOUT > 0)
    np.testing.assert_array_equal(members(found[0].classes, 2), MASKS > 0)


def test_an_image_that_has_a_mask_of_no_class_is_refused_though_each_may_be_absent(tmp_path):
    for name in "ab":
        in_folders(tmp_path / "own", name, MASKS)
    for kind in NAMES:
        (tmp_path / "own" / f"masks_{kind}" / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png: has a mask of no class; allowed is one at least"):
        examples(tmp_path / "own", tmp_path, "organ=masks_organ?,lesion=masks_lesion?")


@pytest.mark.parametrize("text", [FOLDERS, f"{FOLDERS}?"])
def test_a_folder_that_is_not_there_is_one_line(text, tmp_path):
    in_folders(tmp_path / "own", "a", MASKS)
    shutil.rmtree(tmp_path / "own" / "masks_lesion")
    with pytest.raises(
        UserError, match=r"masks_lesion: there is no such folder; masks must lie in it"
    ):
        examples(tmp_path / "own", tmp_path, text)


def test_masks_without_an_image_and_of_another_size_are_named(tmp_path):
    in_folders(tmp_path / "own", "a", MASKS)
    save(tmp_path / "own" / "masks_lesion" / "z.png", MASKS[1])
    with pytest.raises(UserError, match=r"masks_lesion.z\.png: is the mask of no image"):
        examples(tmp_path / "own", tmp_path, FOLDERS)
    (tmp_path / "own" / "masks_lesion" / "z.png").unlink()
    save(tmp_path / "own" / "masks_lesion" / "a.png", MASKS[1, :5])
    with pytest.raises(UserError, match=r"masks_lesion.a\.png.*its image a\.png"):
        examples(tmp_path / "own", tmp_path, FOLDERS)


def test_check_says_how_much_there_is_of_each_class_and_of_several(tmp_path):
    in_folders(tmp_path / "own", "a", MASKS)
    in_folders(tmp_path / "own", "b", MASKS * WITHOUT)
    found = inspect([Folder.plan(tmp_path / "own", options(FOLDERS))], 0)
    pixels = MASKS.sum(axis=(1, 2)) / MASKS[0].size
    assert not found.problems
    assert "2 pairs, layout: images/ and masks_organ/ and masks_lesion/" in found.lines[0]
    assert found.lines[-1] == (
        f"classes that overlap, of all pixels: organ in 2 of 2 images, {pixels[0]:.2%}; lesion in "
        f"1 of 2 images, {pixels[1] / 2:.2%}; {12 / 2 / 192:.2%} belong to several"
    )
    shutil.rmtree(tmp_path / "own" / "masks_lesion")
    for name in "ab":
        save(tmp_path / "own" / "masks_lesion" / f"{name}.png", MASKS[0] * np.uint8(0))
    (problem,) = inspect([Folder.plan(tmp_path / "own", options(FOLDERS))], 0).problems
    assert problem.endswith(f"{FOLDERS}: no mask of lesion marks a pixel")


@pytest.mark.parametrize(
    "text",
    [
        *("a=1,b=masks_b", "a=masks_a,b=1", "a=_a,b=masks_b", "a=x,b=x", "a=x,A=y", "a=x,a=y"),
        *("background=x", "a=../x", "a=/x", "a=x/../y", "a/b=x", "a=x,", "a=x?,b=x", "a =x"),
        ",".join(f"c{i}=m{i}" for i in range(15)),
    ],
)
def test_mixed_forms_and_names_or_places_given_twice_are_no_text_of_classes(text):
    assert not CLASS_VALUES.accepts(text)


def test_a_text_gives_each_class_its_place():
    for text in (FOLDERS, ENDS, "organ=masks/1. organ?,lesion=masks/2. lesion"):
        assert CLASS_VALUES.accepts(text)
    found = parse("organ=masks/1. organ?,lesion=masks/2. lesion")
    assert found.names == NAMES and found.sources == ("masks/1. organ", "masks/2. lesion")
    assert found.optional == {"masks/1. organ"}


def test_values_of_255_and_of_1_are_one_line_only_within_a_class(tmp_path):
    for name in "ab":
        with_additions(tmp_path / "own", name, MASKS)  # 255 of organs and 1 of lesions
    assert len(examples(tmp_path / "own", tmp_path, FOLDERS)) == 2
    save(tmp_path / "own" / "masks_lesion" / "b_LE.png", MASKS[1] * np.uint8(255))
    with pytest.raises(UserError, match=r"b_LE\.png: 1 masks hold 0 and 255, and 1 hold 0 and 1"):
        examples(tmp_path / "own", tmp_path, FOLDERS)


@pytest.mark.parametrize(("layout", "text"), LAYOUTS)
def test_the_config_of_a_folder_counts_its_images_before_it_knows_the_classes(
    layout, text, tmp_path
):
    for name in ("a1", "b2", "c3"):
        layout(tmp_path / "own", name, MASKS)
    config = config_of("folder", f"{tmp_path / 'own'},small")
    assert config.data.test_split == "test"  # held out of three images, and of none fewer
    config.folder.classes = text
    validate.check(config)
    assert config.data.dir == str(tmp_path / "own")


def test_a_folder_without_any_masks_is_one_line_of_what_is_missing(tmp_path):
    save(tmp_path / "own" / "images" / "a.png", np.full((12, 16, 3), 9, np.uint8))
    with pytest.raises(UserError, match=r"own.masks: there is no such folder; masks must lie in"):
        examples(tmp_path / "own", tmp_path, "")
