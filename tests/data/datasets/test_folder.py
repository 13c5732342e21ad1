"""A folder of one's own: layouts, pairs by name, splits that stay, and the config made for it."""

import hashlib
import importlib
import json
import shutil
import statistics

import numpy as np
import pytest
import tfds_calls
import tifffile
from image_files import GREY, RGB, png, tiff
from tiny_config import ROOT, config_of

from segdiff_jax import errors, main
from segdiff_jax.config import schema, validate
from segdiff_jax.data.datasets import base, folder_layout, folder_pairs, registry
from segdiff_jax.data.datasets.folder import Folder
from segdiff_jax.data.image_io import pillow_files
from segdiff_jax.data.image_io.headers import Limits

OPTIONS = {"mask_suffix": "", "validation_share": 0.0, "test_share": 0.0, "seed": 0}
OPTIONS |= {"limits": Limits(), "foreground": "auto"}


def image(index, size=(6, 8)):
    pixels = np.random.default_rng(index).integers(0, 256, (*size, 3)).astype(np.uint8)
    return pixels, png(pixels, RGB)


def mask(index, size=(6, 8)):
    pixels = np.random.default_rng(1000 + index).integers(0, 2, size).astype(np.uint8)
    return pixels, png(255 * pixels, GREY)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def flat(home, names, first=0):
    """images/ and masks/ side by side; returns {name: (image, mask)}."""
    for index, name in enumerate(names, start=first):
        write(home / "images" / f"{name}.png", image(index)[1])
        write(home / "masks" / f"{name}.png", mask(index)[1])
    return {name: (image(i)[0], mask(i)[0]) for i, name in enumerate(names, start=first)}


def one_by_one(home, names, first=0):
    """A folder of each image, its mask in three files."""
    for index, name in enumerate(names, start=first):
        write(home / name / "images" / "photo.png", image(index)[1])
        whole = mask(index)[0]
        parts = [whole.copy() for _ in range(3)]
        parts[0][:3], parts[1][4:], parts[2][:, 4:] = 0, 0, 0  # they overlap, and miss nothing
        for number, part in enumerate(parts):
            write(home / name / "masks" / f"object {number}.png", png(255 * part, GREY))
    return {name: (image(i)[0], mask(i)[0]) for i, name in enumerate(names, start=first)}


def plan(directory, **options):
    return Folder.plan(directory, OPTIONS | options)


def names(planned):
    return {split: list(found) for split, found in contents(planned).items()}


def contents(planned):
    found = {}
    for split, items in planned.splits.items():
        records = [record for item in items for _, record in item.read()]
        found[split] = {r["name"]: (np.array(r["image"]), np.array(r["mask"])) for r in records}
    return found


def assert_holds(planned, **expected):
    assert planned.problems == ()
    found = contents(planned)
    assert {k: list(v) for k, v in found.items()} == {k: sorted(v) for k, v in expected.items()}
    for split, examples in expected.items():
        for name, (pixels, truth) in examples.items():
            np.testing.assert_array_equal(found[split][name][0], pixels)
            np.testing.assert_array_equal(found[split][name][1], truth)


@pytest.mark.parametrize("inside", ["", "archive"])
@pytest.mark.parametrize("layout", [flat, one_by_one])
def test_one_folder_of_images_is_read(tmp_path, layout, inside):
    expected = layout(tmp_path / inside, ["b", "a.1", "ä 2"])
    (tmp_path / "__MACOSX" / "images").mkdir(parents=True)
    (tmp_path / ".git" / "images").mkdir(parents=True)
    assert_holds(plan(tmp_path), train=expected)


def test_images_and_masks_may_be_arrays_of_numpy_or_one_of_both(tmp_path):
    expected = flat(tmp_path, ["a", "b", "c"])
    for name, kinds in (("a", ("images", "masks")), ("b", ("images",)), ("c", ("masks",))):
        for kind, values in zip(("images", "masks"), expected[name], strict=True):
            if kind in kinds:
                (tmp_path / kind / f"{name}.png").unlink()
                np.save(tmp_path / kind / f"{name}.npy", values)
    labels = np.repeat(np.arange(4), 12).reshape(6, 8)
    np.save(tmp_path / "masks" / "a.npy", labels)
    np.save(tmp_path / "images" / "a_seg.npy", np.array({"masks": labels}), allow_pickle=True)
    expected["a"] = expected["a"][0], (labels > 0).astype(np.uint8)
    planned = plan(tmp_path)
    assert_holds(planned, train=expected)
    _, record = next(planned.splits["train"][0].read())
    np.testing.assert_array_equal(pillow_files.decode_stored(record["objects"]), labels)


def test_an_image_that_states_how_large_its_pixels_are_keeps_that(tmp_path):
    flat(tmp_path / "in", ["a", "b"])
    pixels = image(0)[0]
    (tmp_path / "in" / "images" / "a.png").unlink()
    stated = {"resolution": (2e4, 2e4), "resolutionunit": 3}  # a centimetre has 20,000 pixels
    tifffile.imwrite(tmp_path / "in" / "images" / "a.tif", pixels, photometric="rgb", **stated)
    source = registry.Source("folder", str(tmp_path / "in"), str(tmp_path / "out"), OPTIONS)
    assert [one.pixel_size for one in source.load("train")] == [pytest.approx(0.5), 0]


def test_a_mask_may_be_a_folder_of_one_file_an_object(tmp_path):
    expected = flat(tmp_path, ["a.b", "c", "d"])
    for name in ("a.b", "c"):
        (tmp_path / "masks" / f"{name}.png").unlink()
        whole = expected[name][1]
        for row in range(6):
            part = np.zeros_like(whole)
            part[row] = whole[row]
            write(tmp_path / "masks" / name / f"{row}.png", png(part, GREY))
        write(tmp_path / "masks" / name / ".hidden.png", b"")
    assert_holds(plan(tmp_path), train=expected)


def test_one_file_an_object_says_which_pixels_are_which_object(tmp_path):
    flat(tmp_path, ["a"])
    (tmp_path / "masks" / "a.png").unlink()
    parts = np.zeros((3, *mask(0)[0].shape), np.uint8)
    parts[0, :2], parts[1, 1:4, :3], parts[2, 4:] = 255, 255, 255  # the first two share pixels
    for number, part in enumerate(parts):
        write(tmp_path / "masks" / "a" / f"{number}.png", png(part, GREY))
    ((_, record),) = plan(tmp_path).splits["train"][0].read()
    expected = np.where(parts[0] > 0, 1, np.where(parts[1] > 0, 2, np.where(parts[2] > 0, 3, 0)))
    np.testing.assert_array_equal(pillow_files.decode_stored(record["objects"]), expected)
    np.testing.assert_array_equal(np.asarray(record["mask"]), expected > 0)


@pytest.mark.parametrize("deep", ["", "stage1_train"])
@pytest.mark.parametrize("outside", ["", "archive"])
@pytest.mark.parametrize("layout", [flat, one_by_one])
def test_folders_of_splits_are_the_splits(tmp_path, layout, outside, deep):
    home = tmp_path / outside
    train = layout(home / "train" / deep, ["a", "b", "c"])
    test = layout(home / "test", ["a", "d"], 10)
    validation = layout(home / "validation", ["e"], 20)
    planned = plan(tmp_path, validation_share=0.5, test_share=0.4)
    assert_holds(planned, train=train, validation=validation, test=test)
    assert planned.notes == {
        "splits": {"train": ["a", "b", "c"], "validation": ["e"], "test": ["a", "d"]}
    }
    shutil.rmtree(home / "validation")
    assert_holds(plan(tmp_path, test_share=0.4), train=train, test=test)
    drawn = names(plan(tmp_path, validation_share=0.3))
    assert drawn["test"] == ["a", "d"] and drawn["train"] and drawn["validation"]
    assert sorted(drawn["train"] + drawn["validation"]) == ["a", "b", "c"]
    shutil.rmtree(home / "test")
    drawn = names(plan(tmp_path, validation_share=0.3, test_share=0.3))
    assert {split: len(found) for split, found in drawn.items()} == dict.fromkeys(
        folder_layout.SPLITS, 1
    )


def test_names_pair_whatever_their_suffix_case_and_encoding(tmp_path):
    accent, split_accent = "caf\u00e9.v1.2", "cafe\u0301.v1.2"  # one look, two texts
    pixels, truth = image(0)[0], mask(0)[0]
    write(tmp_path / "images" / f"{accent}.TIF", tiff(pixels))
    write(tmp_path / "masks" / f"{split_accent}_mask.Png", mask(0)[1])
    write(tmp_path / "images" / "x.jpeg", image(1)[1])  # the content decides
    write(tmp_path / "masks" / "x_mask.tiff", mask(1)[1])
    for hidden in ("images/._x.jpeg", "masks/.DS_Store", "masks/._x_mask.tiff", "images/Thumbs.db"):
        write(tmp_path / hidden, b"?")
    expected = {accent: (pixels, truth), "x": (image(1)[0], mask(1)[0])}
    assert_holds(plan(tmp_path, mask_suffix="_mask"), train=expected)


def pair(name):
    return folder_pairs.Pair(name, "", ())


def drawn(count, seed=0, validation=0.1, test=0.2):
    pairs = [pair(f"image {i}") for i in range(count)]
    shares = {"validation": validation, "test": test}
    return folder_layout.assign({"": pairs}, shares, seed)


def test_images_are_drawn_by_a_hash_of_name_and_seed():
    found = drawn(500, seed=3)
    assert sum(map(len, found.values())) == 500
    for split, pairs in found.items():
        for each in pairs:
            digest = hashlib.sha256(f"3 {each.name}".encode()).hexdigest()
            rank = int(digest[:12], 16) / 16**12
            assert split == ("test" if rank < 0.2 else "validation" if rank < 0.3 else "train")
    assert abs(len(found["test"]) - 100) < 40 and abs(len(found["validation"]) - 50) < 30
    assert drawn(500, seed=4) != found


def test_an_image_more_moves_no_other():
    before = {each.name: split for split, pairs in drawn(60).items() for each in pairs}
    after = {each.name: split for split, pairs in drawn(90).items() for each in pairs}
    assert all(after[name] == split for name, split in before.items())


@pytest.mark.parametrize("seed", range(20))
def test_small_folders_leave_no_split_empty_and_always_something_to_train(seed):
    for count in range(1, 12):
        sizes = {name: len(pairs) for name, pairs in drawn(count, seed).items()}
        assert sum(sizes.values()) == count and sizes["train"] >= 1
        if count >= 3:
            assert sizes["test"] >= 1 and sizes["validation"] >= 1
        sizes = {name: len(pairs) for name, pairs in drawn(count, seed, 0.49, 0.5).items()}
        assert sizes["train"] >= 1
        sizes = {name: len(pairs) for name, pairs in drawn(count, seed, 0.0, 0.0).items()}
        assert sizes == {"train": count, "validation": 0, "test": 0}
        sizes = {name: len(pairs) for name, pairs in drawn(count, seed, 0.0, 0.9).items()}
        assert sizes["train"] >= 1 and sizes["validation"] == 0


def lines(planned):
    problems = base.problems_of(planned)
    assert all("\n" not in line for line in problems)
    return problems


def test_all_that_does_not_fit_is_listed_a_line_each(tmp_path):
    flat(tmp_path, ["fine", "no mask", "twice", "mask twice", "empty", "other size", "grey mask"])
    images, masks = tmp_path / "images", tmp_path / "masks"
    (masks / "no mask.png").unlink()
    write(images / "twice.TIFF", image(7)[1])
    write(masks / "mask twice.tif", mask(7)[1])
    write(masks / "orphan.png", mask(8)[1])
    (masks / "empty.png").unlink()
    (masks / "empty").mkdir()
    write(masks / "other size.png", mask(9, (8, 6))[1])
    write(masks / "grey mask.png", png(np.full((6, 8), 3, np.uint8), GREY))
    write(images / "more" / "y.png", image(9)[1])
    suffixes = ".png, .jpg, .jpeg, .tif, .tiff, .bmp, .gif, .webp, .npy"
    assert sorted(lines(plan(tmp_path))) == sorted(
        [
            f"{images / 'no mask.png'}: its mask is missing; it must be masks/no mask with the end "
            f"{suffixes}, or a folder masks/no mask",
            f"{images / 'twice.png'}: another image, twice.TIFF, has that name; allowed is one",
            f"{masks / 'mask twice.tif'}: another mask, mask twice.png, has that name; allowed is "
            "one",
            f"{masks / 'orphan.png'}: is the mask of no image; images/ has none of that name",
            f"{masks / 'empty'}: is empty; no object is one mask of zeros",
            f"{masks / 'other size.png'}: has 8x6 pixels; allowed is 6x8, the size of its "
            "image other size.png",
            f"{masks / 'grey mask.png'}: mask holds the values 3; allowed are 0 and 1, or 0 and "
            "255; config.folder.foreground=nonzero, =VALUE or =aboveVALUE says what is foreground",
            f"{images / 'more'}: is a folder; images must lie in images/ itself",
        ]
    )
    flat_suffix = lines(plan(tmp_path, mask_suffix="_m"))
    assert (
        f"{masks / 'orphan.png'}: the name of a mask must end in config.folder.mask_suffix='_m'"
        in (flat_suffix)
    )


def test_a_folder_of_an_image_that_lacks_something_is_named(tmp_path):
    one_by_one(tmp_path, ["fine", "two", "bare", "empty"])
    shutil.copy(tmp_path / "two/images/photo.png", tmp_path / "two/images/copy.png")
    shutil.rmtree(tmp_path / "bare/masks")
    for file in (tmp_path / "empty/masks").iterdir():
        file.unlink()
    (tmp_path / "stray").mkdir()
    assert lines(plan(tmp_path)) == [
        f"{tmp_path / 'bare'}: its masks are missing; they must lie in masks/",
        f"{tmp_path / 'empty/masks'}: is empty; no object is one mask of zeros",
        f"{tmp_path / 'stray'}: has 0 images in images/; allowed is one",
        f"{tmp_path / 'two'}: has 2 images in images/; allowed is one",
    ]


def test_a_name_that_is_not_text_is_named(tmp_path):
    flat(tmp_path, ["a"])
    for folder in ("images", "masks"):
        shutil.copy(tmp_path / folder / "a.png", bytes(tmp_path / folder) + b"/\xff.png")
    (line,) = lines(plan(tmp_path))
    assert line.endswith("the name must be UTF-8") and line.isascii()


def test_an_empty_split_is_named(tmp_path):
    flat(tmp_path / "train", ["a"])
    for folder in ("images", "masks"):
        (tmp_path / "test" / folder).mkdir(parents=True)
    assert lines(plan(tmp_path)) == [f"{tmp_path / 'test'}: holds no image; at least one is needed"]


@pytest.mark.parametrize(
    "made, words",
    [
        ([], "holds no images with masks; it must hold images/ and masks/"),
        (["notes"], "holds no images with masks"),
        (["test/images"], "has test but no train"),
        (["train/images", "train/masks", "val/images"], "val: is not read; allowed is the name"),
        (["training/images", "testing/images"], "training: is not read; allowed is the name train"),
        (["one/x/images", "two/x/images"], "in one place, but in one, two"),
    ],
)
def test_a_folder_in_no_layout_is_refused(tmp_path, made, words):
    for folder in made:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(errors.UserError) as caught:
        plan(tmp_path)
    assert caught.value.code == errors.BAD_DATA and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_folder_the_message_says_how_to_set_one():
    for ask in (Folder.plan, Folder.variants):
        with pytest.raises(errors.UserError, match="config.data.dir is empty: set config.data.dir"):
            ask(None, OPTIONS)


def test_an_image_in_two_splits_is_warned_of(tmp_path, caplog):
    flat(tmp_path / "train", ["a", "b", "c"])
    flat(tmp_path / "test", ["d", "e"], 1)  # the images of b and c
    shutil.copy(tmp_path / "train/images/a.png", tmp_path / "train/images/a again.png")
    shutil.copy(tmp_path / "train/masks/a.png", tmp_path / "train/masks/a again.png")
    assert lines(plan(tmp_path)) == []
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        f"{tmp_path / 'test/images' / twin}.png of test is the same file as "
        f"{tmp_path / 'train/images' / name}.png of train"
        for twin, name in (("d", "b"), ("e", "c"))
    ]


def test_a_folder_is_prepared_and_its_split_written(tmp_path):
    home, kept = tmp_path / "my images", str(tmp_path / "prepared")
    expected = flat(home, [f"image.{i}" for i in range(8)])
    options = OPTIONS | {"validation_share": 0.2, "test_share": 0.2}
    source = registry.Source("folder", str(home), kept, options)
    counts = source.prepare()
    assert set(counts) == set(folder_layout.SPLITS) and sum(counts.values()) == 8
    (metadata,) = (tmp_path / "prepared" / "folder").glob("my_images-????????/*/metadata.json")
    written = json.loads(metadata.read_text())["splits"]
    for split in folder_layout.SPLITS:
        examples = source.load(split)
        assert [example.name for example in examples] == written[split]
        for example in examples:
            np.testing.assert_array_equal(example.image, expected[example.name][0])
            np.testing.assert_array_equal(example.mask, expected[example.name][1])
    assert source.problems() == []
    other = registry.Source("folder", str(home), kept, options | {"seed": 1})
    other.prepare()
    assert len(list((tmp_path / "prepared" / "folder").glob("my_images-*"))) == 2
    write(home / "masks" / "image.3.png", b"")
    with pytest.raises(errors.UserError, match=r"image\.3\.png: is empty"):
        source.prepare()


def made(directory, count, size):
    directory.mkdir()
    for index in range(count):
        write(directory / "images" / f"{index}.png", png(np.zeros(size, np.uint8), GREY))
        write(directory / "masks" / f"{index}.png", png(np.zeros(size, np.uint8), GREY))
    return directory


@pytest.mark.parametrize(
    "count, size, large, small",
    [  # crop, tile, stride and steps; crops are multiples of 64 and of 16
        (1, (7, 9), (64, 64, 48, 20_000), (16, 32, 24, 1000)),
        (30, (100, 150), (64, 64, 48, 20_000), (64, 128, 96, 1000)),
        (50, (600, 191), (128, 128, 96, 25_000), (64, 128, 96, 1000)),
        (300, (50, 60), (64, 64, 48, 150_000), (48, 96, 72, 1500)),
        (450, (300, 257), (256, 256, 192, 200_000), (64, 128, 96, 2000)),
    ],
)
def test_the_config_suits_size_and_count(tmp_path, count, size, large, small):
    directory = made(tmp_path / "mine", count, size)
    for argument, expected in ((str(directory), large), (f"{directory},small", small)):
        config = config_of("folder", argument)
        validate.check(config)
        assert validate.warnings_for(config) == []
        sampling = config.sampling
        assert (config.augment.crop, sampling.tile, sampling.stride, config.train.steps) == expected
        assert config.data.name == "folder" and config.data.dir == str(directory)
        assert config.data.mean == config.data.std == ()
        held_out = ("", "") if count < 3 else ("validation", "test")
        if argument.endswith(",small"):  # validation takes longer than it is worth
            held_out = ("", held_out[1])
        assert (config.data.validation_split, config.data.test_split) == held_out
        options = dict(config.folder.items()) | {"limits": Limits()}
        splits = Folder.plan(directory, options).splits
        assert {config.data.train_split, *held_out} - {""} <= set(splits)


def test_the_config_looks_at_the_images_to_train_on_and_the_folders_there_are(tmp_path):
    for folder, sides in (("train", (96, 160, 200)), ("test", (40,) * 9)):
        for side in sides:
            name = f"{side}-{len(list(tmp_path.rglob('*.png')))}.png"
            write(tmp_path / folder / "images" / name, png(np.zeros((side, 400), np.uint8), GREY))
    (tmp_path / "train" / "masks").mkdir()
    (tmp_path / "test" / "masks").mkdir()
    write(tmp_path / "train" / "images" / "damaged.png", b"")
    config = config_of("folder", str(tmp_path))
    assert config.augment.crop == statistics.median((96, 160, 200)) // 64 * 64 == 128
    assert config.data.test_split == "test" and config.data.validation_split == "validation"


@pytest.mark.parametrize(
    "argument, words", [("", "needs the directory of your images"), ("/nowhere", "must be a dir")]
)
def test_the_config_says_what_it_needs(argument, words):
    with pytest.raises(errors.UserError, match=words):
        config_of("folder", argument)


def test_the_config_imports_no_jax_and_no_tfds(tmp_path):
    import subprocess
    import sys

    made(tmp_path / "mine", 3, (64, 64))
    code = """
import sys
from segdiff_jax.cli import options
options.load_config(sys.argv[1])
sys.exit("jax" in sys.modules or "tensorflow_datasets" in sys.modules)
"""
    argument = f"configs/folder.py:{tmp_path / 'mine'},small"
    assert subprocess.run([sys.executable, "-c", code, argument], cwd=ROOT).returncode == 0


def test_the_check_names_every_bad_file_and_passes_once_they_are_fixed(tmp_path, capsys):
    flat(tmp_path, ["a", "b", "c", "d"])
    good = (tmp_path / "images/b.png").read_bytes()
    (tmp_path / "images/b.png").write_bytes(good[:-20])
    (tmp_path / "masks/c.png").write_bytes(b"")
    (tmp_path / "images/d.png").unlink()
    (tmp_path / "images/d.png").symlink_to("d.png")
    words = [f"--config={ROOT / 'configs/folder.py'}:{tmp_path},small", "--mode=check"]
    assert main.main(words) == errors.BAD_DATA
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.split(": ")[1] for line in lines[:-1]) == [
        str(tmp_path / "images/b.png"),
        str(tmp_path / "images/d.png"),
        str(tmp_path / "masks/c.png"),
    ]
    assert lines[-1] == f"segdiff: {tmp_path}: 3 problems, listed above"
    (tmp_path / "images/b.png").write_bytes(good)
    (tmp_path / "masks/c.png").write_bytes(mask(2)[1])
    (tmp_path / "images/d.png").unlink()
    (tmp_path / "images/d.png").write_bytes(image(3)[1])
    assert main.main(words) == errors.DONE
    assert "every file can be used" in capsys.readouterr().out


def test_tfds_own_calls_prepare_and_load_the_same(tmp_path):
    flat(tmp_path / "mine", "abcdefghij")
    options = {**Folder.DEFAULTS, "test_share": 0.4, "limits": Limits()}
    source = registry.Source("folder", str(tmp_path / "mine"), str(tmp_path / "ours"), options)
    tfds_calls.check("folder", source, tmp_path / "own", tmp_path / "mine", test_share=0.4)


@pytest.mark.parametrize("name", registry.BUILDERS)
def test_options_that_tfds_is_not_given_are_those_of_the_config(name):
    builder = getattr(importlib.import_module(f"segdiff_jax.data.datasets.{name}"), name.title())
    for key, value in builder.DEFAULTS.items():
        assert schema.FIELDS[f"{name}.{key}"].default == value
