"""Images of files, folders and patterns, each once, whose names and numbers tell them apart."""

import pytest

from segdiff_jax.errors import UserError
from segdiff_jax.prediction.inputs import expand, find_all, find_images

FILES = "one/a.png one/b.tif one/deep/c.png two/a.png two/notes.txt x[1].png"


@pytest.fixture
def plates(tmp_path):
    for name in FILES.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(found):
    top, inputs = found
    assert all((top / one.name).samefile(one.path) for one in inputs)
    assert len({one.number for one in inputs}) == len({one.output_stem for one in inputs})
    return [one.name for one in inputs]


def test_one_path_is_what_it_is_alone(plates):
    assert find_all([plates / "one"]) == find_images(plates / "one")
    assert find_all([plates / "one" / "b.tif"]) == find_images(plates / "one" / "b.tif")


def test_files_of_one_folder_keep_their_numbers_and_names(plates):
    top, inputs = find_all([plates / "one" / "b.tif", plates / "one" / "a.png", plates / "one"])
    assert (top, inputs) == find_images(plates / "one")
    assert [one.number for one in find_all([plates / "one" / "b.tif"])[1]] == [1]


def test_folders_are_told_apart_by_their_names(plates):
    both = find_all([plates / "two", plates / "one"])
    assert names(both) == ["one/a.png", "one/b.tif", "two/a.png"]
    some = find_all([plates / "one" / "b.tif", plates / "two"])
    assert names(some) == ["one/b.tif", "two/a.png"]
    assert [one.number for one in some[1]] == [1, 2]  # as with all of them


def test_an_image_that_is_named_twice_is_there_once(plates):
    found = find_all([plates / "one", plates / "one" / "deep" / "c.png"], recursive=True)
    assert names(found) == ["a.png", "b.tif", "deep/c.png"]
    found = find_all([plates, plates / "two" / "a.png"], recursive=True)
    assert names(found).count("two/a.png") == 1 and len(found[1]) == 5


@pytest.mark.parametrize(
    "pattern, found",
    [
        ("one/*", ["one/a.png", "one/b.tif"]),
        ("*/a.png", ["one/a.png", "two/a.png"]),
        ("**/*.png", ["one/a.png", "one/deep/c.png", "two/a.png", "x[1].png"]),
        ("t?o", ["two"]),
        ("[ot]*", ["one", "two"]),
        ("x[1].png", ["x[1].png"]),
        ("one", ["one"]),
        ("none.png", ["none.png"]),
    ],
)
def test_a_pattern_stands_for_its_images_or_else_its_folders(plates, pattern, found):
    assert expand(plates / pattern) == [plates / name for name in found]


@pytest.mark.parametrize("pattern", ["*.jpg", "two/*.txt", "no/[ab]?.png"])
def test_a_pattern_of_nothing_is_refused(plates, pattern):
    with pytest.raises(UserError, match="matches no image and no folder"):
        expand(plates / pattern)
