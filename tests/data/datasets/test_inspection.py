"""What the check of a data set tells, of sets whose figures are known."""

import numpy as np
import pytest
from image_files import GREY, RGB, png, tiff
from PIL import Image
from tiny_config import ROOT

from segdiff_jax import main
from segdiff_jax.data.datasets import base, inspection, registry, synthetic

SQUARES = {"none": [], "one": [(0, 0, 4)], "three": [(0, 0, 2), (4, 0, 2), (4, 6, 3)], "all": None}


def mask_of(name, side=12):
    mask = np.zeros((side, side + 4), np.uint8)
    for top, left, size in SQUARES[name] or []:
        mask[top : top + size, left : left + size] = 1
    return mask + (SQUARES[name] is None)


def plan(names=tuple(SQUARES), **options):
    def item(name):
        def read():
            image = np.full((12, 16, 3), 90, np.uint8)
            yield name, base.record(image, mask_of(name), name, **options)

        return base.Item((), read)

    return base.Plan({"train": [item(name) for name in names]})


def test_the_figures_are_those_of_the_masks():
    found = inspection.inspect([plan()], 0)
    assert found.problems == []
    assert found.lines == [
        "train: 4 examples of 12x16 pixels (height x width)",
        "train: foreground from 0.0% (none) to 100.0% (all), mean 29.3%; objects from 0 to 3, "
        "mean 1.2",
        "train: 1 masks are empty: none",
        "train: 1 masks are full: all",
    ]
    assert len(found.pictures) == 4
    for (_, mask), name in zip(found.pictures, SQUARES, strict=True):
        np.testing.assert_array_equal(mask, mask_of(name))


def test_images_smaller_than_the_crop_are_named():
    found = inspection.inspect([plan(("one", "three"))], 16)
    assert found.lines[-1] == (
        "train: 2 images are smaller than config.augment.crop=16, and are extended by reflection: "
        "one, three"
    )
    assert "smaller" not in inspection.inspect([plan()], 12).lines[-1]


def test_labels_are_counted_where_regions_touch():
    labels = np.zeros((12, 16), int)
    labels[:4, :2], labels[:4, 2:4] = 5, 9
    (lines,) = [inspection.inspect([plan(("one",), objects=labels)], 0).lines]
    assert "objects from 2 to 2" in lines[1]


def test_problems_of_files_and_of_the_set_are_all_there():
    def broken():
        raise base.bad_data("x.png", "is broken")
        yield

    bad = plan(("one",))._replace(
        problems=("first",), conclude=lambda: (["last"], ["said last"]), said=("said first",)
    )
    bad.splits["test"] = [base.Item((), broken)]
    found = inspection.inspect([bad, bad], 0)
    assert found.problems == ["first", "x.png: is broken", "last"]
    assert found.lines[0] == "said first" and found.lines[-1] == "said last"
    assert "test: no example" in found.lines


def test_a_set_of_many_examples_shows_sixteen_of_all_splits(monkeypatch):
    monkeypatch.setattr(synthetic, "COUNTS", {"train": 30, "validation": 9, "test": 9})
    found = registry.Source("synthetic").inspect()
    assert len(found.pictures) == 15 and found.problems == []
    assert sum("foreground from" in line for line in found.lines) == 3


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(6):
        side = 64 + 16 * (i % 2)
        pixels = rng.integers(0, 256, (side, 64, 3))
        deep = i == 3
        file = tiff(pixels.astype(np.uint16) * 16) if deep else png(pixels.astype(np.uint8), RGB)
        mask = np.zeros((side, 64), np.uint8)
        mask[10 : 10 + i, 5:40] = 255
        for place, content in (("images", file), ("masks", png(mask, GREY))):
            (tmp_path / "mine" / place).mkdir(parents=True, exist_ok=True)
            (tmp_path / "mine" / place / f"{i}.png").write_bytes(content)
    (tmp_path / "mine" / "notes.txt").write_text("?")
    return tmp_path / "mine"


def test_check_mode_prints_what_it_saw_and_draws_it(mine, capsys):
    argv = [f"--config={ROOT}/configs/folder.py:{mine},small", "--mode=check", "--workdir=run"]
    assert main.main(argv) == 0
    out = capsys.readouterr().out
    for words in (
        "6 pairs, layout: images/ and masks/",
        "ignored: 1 .txt",
        "of 64x64 to 80x64, 3 of 80x64 pixels",
        "1 masks are empty: 0",
        "images: 5 of 8 bits, 1 of more, read in 1 ranges of values (as ",
        "0..4095, usual for its values",
        "check.png shows 6 examples and masks",
    ):
        assert words in out, out
    assert out.splitlines()[-1] == "folder: every file can be used; ready to train"
    grid = np.asarray(Image.open("run/check.png"))
    assert grid.shape == (2 * 248 + 8, 3 * 248 + 8, 3)
    assert (grid == (255, 230, 0)).all(-1).any()  # an outline


def test_check_mode_ends_with_the_list(mine, capsys):
    from tiny_config import ROOT

    (mine / "masks" / "2.png").write_bytes(b"")
    argv = [f"--config={ROOT}/configs/folder.py:{mine},small", "--mode=check", "--workdir=run"]
    assert main.main(argv) == 65
    captured = capsys.readouterr()
    assert "ready to train" not in captured.out and "2.png: is empty (0 bytes)" in captured.err
