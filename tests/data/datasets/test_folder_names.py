"""Layouts of public sets are found by the names of their files; masks of one set must agree."""

import numpy as np
import pytest
from image_files import GREY, PALETTE, RGB, png
from image_rows import palette

from segdiff_jax import errors
from segdiff_jax.data.datasets import base, folder_names, registry
from segdiff_jax.data.datasets.folder import Folder
from segdiff_jax.data.image_io.headers import Limits

OPTIONS = {"mask_suffix": "", "validation_share": 0.0, "test_share": 0.0, "seed": 0}
OPTIONS |= {"limits": Limits(), "foreground": "auto"}
RNG = np.random.default_rng(1)
COUNT = 5
IMAGES = RNG.integers(0, 256, (COUNT, 6, 8, 3)).astype(np.uint8)
MASKS = RNG.integers(0, 2, (COUNT, 6, 8)).astype(np.uint8)

LAYOUTS = {  # name: (form of an image, form of its mask, words about the layout)
    "masks": ("images/{}.png", "masks/{}.png", "images/ and masks/"),
    "labels": ("images/{}.png", "labels/{}.png", "images/ and labels/"),
    "annotations": ("images/{}.jpg", "annotations/{}.png", "images/ and annotations/"),
    "other case": ("Images/{}.png", "Masks/{}.png", "Images/ and Masks/"),
    "nnU-Net": ("imagesTr/case_{:03}_0000.png", "labelsTr/case_{:03}.png", "nnU-Net (imagesTr/"),
    "nnU-Net in its folder": (
        "Dataset001_A/imagesTr/a{:03}_0000.tif",
        "Dataset001_A/labelsTr/a{:03}.tif",
        "nnU-Net (imagesTr/",
    ),
    "channel behind": (
        "images/case_{:03}_0000.png",
        "masks/case_{:03}.png",
        "images/ and masks/, *_0000 with *",
    ),
    "ISIC": (
        "images/ISIC_{:07}.jpg",
        "masks/ISIC_{:07}_segmentation.png",
        "* with *_segmentation",
    ),
    "ISIC, beside": ("ISIC_{:07}.jpg", "ISIC_{:07}_segmentation.png", "ISIC (X and X_segm"),
    "DRIVE": ("images/{:02}_training.tif", "masks/{:02}_manual1.gif", "*_training with *_manual1"),
    "cellpose": ("{}.tif", "{}_masks.tif", "cellpose (X and X_masks side by side)"),
    "cellpose, named images": ("{:03}_img.png", "{:03}_masks.png", "cellpose (X_img and X_masks"),
    "BUSI": ("benign ({}).png", "benign ({})_mask.png", "BUSI (X and X_mask side by side)"),
    "before": ("images/img_{}.bmp", "masks/mask_{}.bmp", "img_* with mask_*"),
    "before numbers": ("images/img{}.png", "masks/gt{}.png", "img* with gt*"),
    "truth": ("{}.png", "{}_gt.png", "X and X_gt side by side"),
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def fill(home, layout):
    image, mask, _ = LAYOUTS[layout]
    for i in range(COUNT):
        write(home / image.format(i), png(IMAGES[i], RGB))
        write(home / mask.format(i), png(255 * MASKS[i], GREY))


def plan(directory, **options):
    return Folder.plan(directory, OPTIONS | options)


def records(planned, split="train"):
    return [record for item in planned.splits[split] for _, record in item.read()]


@pytest.mark.parametrize("inside", ["", "train"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_of_a_public_set_is_found_and_said(tmp_path, layout, inside):
    fill(tmp_path / inside, layout)
    planned = plan(tmp_path)
    assert planned.problems == ()
    found = records(planned)
    assert len(found) == COUNT
    for i, record in enumerate(found):
        np.testing.assert_array_equal(np.array(record["image"]), IMAGES[i])
        np.testing.assert_array_equal(np.array(record["mask"]), MASKS[i])
    (line,) = planned.said
    assert line.startswith(f"{COUNT} pairs, layout: ") and LAYOUTS[layout][2] in line


def test_further_masks_of_an_image_are_further_objects(tmp_path):
    fill(tmp_path, "BUSI")
    more = np.zeros((6, 8), np.uint8)
    more[2:4, 1:7] = 255
    write(tmp_path / "benign (2)_mask_1.png", png(more, GREY))
    write(tmp_path / "benign (2)_mask_2.png", png(more[::-1], GREY))
    expected = MASKS[2] | (more > 0) | (more[::-1] > 0)
    np.testing.assert_array_equal(np.array(records(plan(tmp_path))[2]["mask"]), expected)


def test_folders_of_classes_are_one_set(tmp_path):
    for kind in ("benign", "malignant", "normal"):
        for i in range(3):
            write(tmp_path / kind / f"{kind} ({i}).png", png(IMAGES[i], RGB))
            write(tmp_path / kind / f"{kind} ({i})_mask.png", png(255 * MASKS[i], GREY))
    planned = plan(tmp_path)
    assert planned.problems == () and len(records(planned)) == 9
    assert planned.said == ("9 pairs, layout: BUSI (X and X_mask side by side)",)


def test_the_test_folders_of_nnunet_are_the_test_split(tmp_path):
    fill(tmp_path, "nnU-Net")
    for i in range(2):
        write(tmp_path / f"imagesTs/case_9{i}_0000.png", png(IMAGES[i], RGB))
        write(tmp_path / f"labelsTs/case_9{i}.png", png(255 * MASKS[i], GREY))
    planned = plan(tmp_path)
    assert len(records(planned)) == COUNT and len(records(planned, "test")) == 2
    for file in (tmp_path / "labelsTs").iterdir():
        file.unlink()
    (tmp_path / "labelsTs").rmdir()
    planned = plan(tmp_path)
    assert len(records(planned)) == COUNT and "test" not in planned.splits
    assert planned.said[1] == "ignored: 2 .png in imagesTs/"


@pytest.mark.parametrize(
    ("images", "masks", "count"),
    [
        ("imagesTr/case_{}_{:04}.png", "labelsTr/case_{}.png", 2),
        ("Dataset7/imagesTr/a{}_{:04}.tif", "Dataset7/labelsTr/a{}.tif", 4),
        ("images/x{}_{:04}.bmp", "masks/x{}.png", 3),
    ],
)
def test_several_modalities_are_one_line_that_says_what_to_do(tmp_path, images, masks, count):
    for i in range(COUNT):
        for modality in range(count):
            write(tmp_path / images.format(i, modality), png(IMAGES[i], RGB))
        write(tmp_path / masks.format(i), png(MASKS[i], GREY))
    (problem,) = Folder.plan(tmp_path, OPTIONS).problems
    assert f"holds {count} modalities of a case (X_0000, X_0001" in problem
    assert "config.reading.channels" in problem


def test_frames_with_a_mask_each_are_no_modalities(tmp_path):
    for i in range(COUNT):
        write(tmp_path / f"images/a_{i:04}.png", png(IMAGES[i], RGB))
        write(tmp_path / f"masks/a_{i:04}.png", png(MASKS[i], GREY))
    write(tmp_path / "images/a.png", png(IMAGES[0], RGB))
    write(tmp_path / "masks/a.png", png(MASKS[0], GREY))
    plan = Folder.plan(tmp_path, OPTIONS)
    assert not plan.problems and len(plan.splits["train"]) == COUNT + 1


def test_a_suffix_that_is_given_is_kept_to(tmp_path):
    fill(tmp_path, "ISIC")
    assert len(records(plan(tmp_path, mask_suffix="_segmentation"))) == COUNT
    assert any("its mask is missing" in line for line in plan(tmp_path, mask_suffix="_m").problems)


def test_two_kinds_of_masks_beside_an_image_are_no_layout(tmp_path):
    fill(tmp_path, "BUSI")
    for i in range(COUNT):
        write(tmp_path / f"benign ({i})_label.png", png(255 * MASKS[i], GREY))
    (line,) = plan(tmp_path).problems
    assert "masks beside their images need config.folder.mask_suffix" in line


def test_two_folders_of_masks_are_named(tmp_path):
    fill(tmp_path, "masks")
    fill(tmp_path, "labels")
    assert f"{tmp_path}: has labels and masks; allowed is one folder" in plan(tmp_path).problems[0]
    for file in (tmp_path / "labels").iterdir():
        file.rename(file.with_suffix(".txt"))
    assert plan(tmp_path).problems == ()


def test_names_without_a_common_part_are_listed_as_before(tmp_path):
    for i, name in enumerate(("cat", "dog", "bird")):
        write(tmp_path / f"images/{name}.png", png(IMAGES[i], RGB))
        write(tmp_path / f"masks/mask of {'xyz'[i]}.png", png(255 * MASKS[i], GREY))
    lines = plan(tmp_path).problems
    assert sum("its mask is missing" in line for line in lines) == 3
    assert sum("is the mask of no image" in line for line in lines) == 3


@pytest.mark.parametrize(
    "images, masks, expected",
    [
        (["a_1", "a_2"], ["a_1", "a_2"], ("*", "*")),
        (["1", "10", "11"], ["1", "10", "11"], ("*", "*")),
        (["x_0000", "y_0000"], ["x", "y"], ("*_0000", "*")),
        (["case_010_0000"], ["case_010"], ("*_0000", "*")),
        (["a", "b", "c"], ["a_gt", "b_gt"], ("*", "*_gt")),
        (["a", "b"], ["c", "d"], ("*", "*")),
    ],
)
def test_the_shortest_affixes_that_make_names_equal_are_found(images, masks, expected):
    assert tuple(map(str, folder_names.common_part(images, masks))) == expected


def test_what_lies_in_a_folder_unused_is_counted_by_kind(tmp_path):
    fill(tmp_path, "masks")
    for name in ("a.txt", "b.txt", "images/c.jp2", "images/README", "masks/.hidden", "extra/1.png"):
        write(tmp_path / name, b"?")
    planned = plan(tmp_path)
    assert planned.problems == () and len(records(planned)) == COUNT
    assert planned.said[1] == (
        "ignored: 2 .txt; 1 .png in extra/; 1 .jp2, 1 without suffix in images/; 1 hidden in masks/"
    )


def test_a_folder_without_images_that_are_read_says_what_it_holds(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.dcm", b"?")
    with pytest.raises(errors.UserError, match=r"no images with masks \(there are 3 .dcm\)"):
        plan(tmp_path)


def masks_of(tmp_path, *files):
    for i, file in enumerate(files):
        write(tmp_path / f"images/{i}.png", png(IMAGES[i], RGB))
        write(tmp_path / f"masks/{i}.png", file)
    planned = plan(tmp_path)
    return base.problems_of(planned), planned.conclude()[1]


LABELS = np.kron(np.array([[0, 1, 0], [2, 0, 9]]), np.ones((3, 3), int))[:, :8]
MIXED = {
    "0/1 and 0/255": (png(MASKS[0], GREY), png(255 * MASKS[1], GREY)),
    "0/255 and labels": (png(255 * MASKS[0], GREY), png(LABELS, GREY)),
    "0/1 and 0/65535": (png(MASKS[0], GREY), png(65535 * MASKS[1].astype(int), GREY, 16)),
}


@pytest.mark.parametrize("name", MIXED)
def test_a_set_that_mixes_255_with_labels_is_refused_with_the_field_that_decides(tmp_path, name):
    problems, _ = masks_of(tmp_path, *MIXED[name], png(0 * MASKS[0], GREY))
    (line,) = problems
    assert "1 masks hold 0 and 255" in line and "config.folder.foreground=nonzero takes all" in line
    assert base.problems_of(plan(tmp_path, foreground="nonzero")) == []


def test_masks_that_agree_are_not_refused(tmp_path):
    zeros = png(0 * MASKS[0], GREY)
    assert masks_of(tmp_path, zeros, png(MASKS[1], GREY), png(LABELS, GREY))[0] == []
    problems, said = masks_of(tmp_path, zeros, png(LABELS, GREY), png(LABELS // 9 * 9, GREY))
    assert problems == [] and said[1].startswith("2 masks hold labels of objects, as")
    white_first = palette((255,) * 3, (0,) * 3)
    files = [png(1 - mask, PALETTE, before=white_first) for mask in MASKS[:3]]
    problems, said = masks_of(tmp_path, *files)
    assert problems == [] and "the brighter colour is foreground" in said[1]
    found = [np.array(record["mask"]) for record in records(plan(tmp_path))]
    np.testing.assert_array_equal(found, MASKS[:3])


def test_objects_are_kept_in_a_prepared_set(tmp_path):
    home = tmp_path / "mine"
    touching = np.zeros((6, 8), np.uint16)
    touching[1:5, 1:4], touching[1:5, 4:7], touching[5, 0] = 700, 8, 65535 - 1
    masks_of(home, png(touching, GREY, 16), png(255 * MASKS[1], GREY), png(0 * MASKS[0], GREY))
    source = registry.Source("folder", str(home), str(tmp_path / "prepared"), OPTIONS)
    with pytest.raises(errors.UserError, match="255 foreground or to be ignored"):
        source.prepare()
    source = registry.Source(
        "folder", str(home), str(tmp_path / "prepared"), OPTIONS | {"foreground": "nonzero"}
    )
    first, second, third = source.load("train")
    expected = np.select([touching == 8, touching == 700, touching > 700], [1, 2, 3])
    np.testing.assert_array_equal(first.objects, expected)
    np.testing.assert_array_equal(first.mask, touching > 0)
    assert second.objects is None and third.objects is None
    np.testing.assert_array_equal(second.mask, MASKS[1])
