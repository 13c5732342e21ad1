"""Folders whose masks have classes: values, files of objects or classes, and what is wrong."""

import numpy as np
import pytest
from PIL import Image

from segdiff_jax.data.datasets.folder import Folder
from segdiff_jax.data.datasets.registry import Source
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import UserError

TEXT = "cell=1,gap=4"
CLASSES = np.zeros((12, 16), np.uint8)
CLASSES[2:9, 1:7], CLASSES[2:9, 7:12], CLASSES[4:8, 13:16] = 1, 2, 1
VALUES = np.array([0, 1, 4], np.uint8)[CLASSES]
LABELS = np.where(CLASSES > 0, CLASSES, 0).astype(np.uint8)
LABELS[4:8, 13:16] = 3


COLUMNS = (np.arange(16) < 9).astype(np.uint8), (np.arange(16) > 5).astype(np.uint8)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def pictures(home, names="abcd"):
    for name in names:
        save(home / "images" / f"{name}.png", np.full((12, 16, 3), 9, np.uint8))
    return home


def examples(home, tmp_path, text=TEXT, **options):
    given = {"mask_suffix": "", "foreground": "auto", "classes": text, "limits": Limits()}
    given |= {"validation_share": 0.0, "test_share": 0.0, "seed": 0, **options}
    return Source("folder", str(home), str(tmp_path / "prepared"), given).load("train")


def test_values_of_masks_are_classes_and_regions_of_one_class_are_objects(tmp_path):
    home = pictures(tmp_path / "own")
    for name in "abcd":
        save(home / "masks" / f"{name}.png", VALUES)
    found = examples(home, tmp_path)
    assert len(found) == 4
    np.testing.assert_array_equal(found[0].classes, CLASSES)
    np.testing.assert_array_equal(found[0].mask, CLASSES > 0)
    np.testing.assert_array_equal(found[0].objects, LABELS)
    assert examples(home, tmp_path, "", foreground="nonzero")[0].classes is None


def test_of_a_palette_the_indices_are_the_values(tmp_path):
    home = pictures(tmp_path / "own", "a")
    picture = Image.fromarray(VALUES)
    picture.putpalette([200, 0, 0] * 5)
    (home / "masks").mkdir()
    picture.save(home / "masks" / "a.png")
    np.testing.assert_array_equal(examples(home, tmp_path)[0].classes, CLASSES)


def test_one_file_an_object_holds_the_value_of_its_class(tmp_path):
    home = pictures(tmp_path / "own", "a")
    for number in (1, 2, 3):
        save(home / "masks" / "a" / f"{number}.png", np.where(LABELS == number, VALUES, 0))
    (found,) = examples(home, tmp_path)
    np.testing.assert_array_equal(found.classes, CLASSES)
    np.testing.assert_array_equal(found.objects, LABELS)


def test_what_two_files_of_objects_share_is_the_first_one_s_and_those_that_touch_are_two(tmp_path):
    home, whole = pictures(tmp_path / "own", "a"), np.ones((12, 16), np.uint8)
    first, second = (whole * part for part in COLUMNS)
    save(home / "masks" / "a" / "1.png", first)
    save(home / "masks" / "a" / "2.png", 4 * second)
    (found,) = examples(home, tmp_path)
    np.testing.assert_array_equal(found.classes, np.where(first, 1, 2))
    np.testing.assert_array_equal(found.objects, np.where(first, 1, 2))
    values = np.zeros((12, 16), np.uint8)
    values[1, 1] = values[2, 2] = 1  # a corner
    values[5, 5:9] = 4
    save(home / "masks" / "a" / "1.png", values * (values == 1))
    save(home / "masks" / "a" / "2.png", values * (values == 4))
    (found,) = examples(home, tmp_path)
    assert found.objects.max() == 2  # a file is an object
    (home / "masks" / "a" / "1.png").unlink()
    save(home / "masks" / "a" / "2.png", values)
    assert examples(home, tmp_path)[0].objects.max() == 3  # values are classes of regions


def test_a_folder_of_classes_beside_masks_gives_the_class_of_each_labelled_object(tmp_path):
    home, labels = pictures(tmp_path / "own", "a"), LABELS.copy()
    labels[2:9, 4:7] = 4  # two objects of one class that touch
    save(home / "masks" / "a.png", labels)
    save(home / "classes" / "a.png", VALUES)
    (found,) = examples(home, tmp_path)
    np.testing.assert_array_equal(found.classes, CLASSES)
    np.testing.assert_array_equal(found.objects, labels)


@pytest.mark.parametrize(
    ("text", "values", "what"),
    [
        ("cell=1", VALUES, r"a\.png: holds the value 4, which config\.folder\.classes gives to no"),
        (f"{TEXT},rare=9", VALUES, r"no mask holds the value 9 of rare; the masks hold 0, 1, 4"),
        (TEXT, np.repeat(VALUES[..., None], 3, -1) * [1, 2, 3], "coloured; a mask of classes"),
    ],
)
def test_values_and_classes_that_do_not_belong_together_are_one_line(text, values, what, tmp_path):
    home = pictures(tmp_path / "own", "a")
    save(home / "masks" / "a.png", np.asarray(values, np.uint8))
    with pytest.raises(UserError, match=what) as caught:
        examples(home, tmp_path, text)
    assert "\n" not in str(caught.value) and caught.value.code == 65


def test_values_can_be_joined_and_left_out(tmp_path):
    home = pictures(tmp_path / "own", "a")
    save(home / "masks" / "a.png", VALUES)
    (found,) = examples(home, tmp_path, "all=1+4")
    np.testing.assert_array_equal(found.classes, CLASSES > 0)
    (found,) = examples(home, tmp_path, "cell=1,background=4")
    np.testing.assert_array_equal(found.classes, CLASSES == 1)


def test_files_of_classes_that_do_not_fit_the_masks_are_one_line(tmp_path):
    home = pictures(tmp_path / "own", "ab")
    for name in "ab":
        save(home / "masks" / f"{name}.png", LABELS)
    save(home / "classes" / "a.png", VALUES)
    with pytest.raises(UserError, match=r"b\.png: has 0 files of its classes in .*classes"):
        examples(home, tmp_path)
    save(home / "classes" / "b.png", np.where(LABELS == 3, 0, VALUES))
    with pytest.raises(UserError, match=r"classes.b\.png: at 12 of 192 pixels it has a class and"):
        examples(home, tmp_path)
    beyond = VALUES.copy()
    beyond[0, :5] = 4  # a class where there is no mask
    save(home / "classes" / "b.png", beyond)
    with pytest.raises(UserError, match=r"classes.b\.png: at 5 of 192 pixels it has a class and"):
        examples(home, tmp_path)


def test_a_lossy_mask_is_refused(tmp_path):
    home = pictures(tmp_path / "own", "a")
    save(home / "masks" / "a.jpg", VALUES)
    with pytest.raises(UserError, match=r"a\.jpg: is of a lossy format"):
        examples(home, tmp_path)


def test_masks_of_several_annotators_have_no_classes(tmp_path):
    home = pictures(tmp_path / "own", "a")
    for folder in ("masks_1", "masks_2"):
        save(home / folder / "a.png", VALUES)
    with pytest.raises(UserError, match=r"a\.png: has masks of 2 annotators; allowed is one"):
        examples(home, tmp_path)


def test_check_says_how_much_there_is_of_each_class(tmp_path):
    home = pictures(tmp_path / "own", "ab")
    save(home / "masks" / "a.png", VALUES)
    save(home / "masks" / "b.png", np.zeros_like(VALUES))
    given = {"mask_suffix": "", "foreground": "auto", "classes": TEXT, "limits": Limits()}
    given |= {"validation_share": 0.0, "test_share": 0.0, "seed": 0}
    lines = Source("folder", str(home), options=given).inspect().lines
    assert "classes, of all pixels: cell in 1 of 2 masks, 14.06%; gap in 1 of 2 masks, 9.11%" in (
        lines
    )


def test_a_folder_without_classes_is_prepared_as_before(tmp_path):
    plain = {"mask_suffix": "", "foreground": "auto", "seed": 0}
    (one,) = Folder.variants(tmp_path, plain)
    assert [one] == [*Folder.variants(tmp_path, plain | {"classes": ""})]
    assert [one] != [*Folder.variants(tmp_path, plain | {"classes": TEXT})]
