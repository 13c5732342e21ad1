"""Objects of Cityscapes, cut from a made-up tree that is laid out as the official files are."""

import logging
import re
import shutil
import subprocess
import sys
from collections import deque

import numpy as np
import pytest
import tfds_calls
from object_windows import by_rule
from PIL import Image
from refusals import emptied, refused, refused_for, truncated
from tiny_config import config_of

from segdiff_jax import errors
from segdiff_jax.config import schema
from segdiff_jax.data import object_crops
from segdiff_jax.data.datasets import cityscapes, registry
from segdiff_jax.data.datasets.cityscapes_instances import LABEL_IDS as LABELS
from segdiff_jax.data.image_io import headers
from segdiff_jax.factory import datasets

HEIGHT, WIDTH = 90, 150


def rectangle(left, top, right, bottom):
    """The corners of the pixels left..right, top..bottom."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def covers(polygon, height, width):
    """Where a pixel centre (a whole number) is in or on a polygon: even-odd, edge by edge."""
    y, x = np.mgrid[:height, :width].astype(float)
    inside, on = np.zeros((height, width), bool), np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        side = (x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)
        among_x = (x >= min(x0, x1)) & (x <= max(x0, x1))
        on |= (side == 0) & among_x & (y >= min(y0, y1)) & (y <= max(y0, y1))
        if y0 != y1:
            crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            inside ^= ((y0 <= y) != (y1 <= y)) & (x < crossing)
    return inside | on


# Of each frame, objects from back to front.
STREET = [
    ("road", rectangle(0, 40, WIDTH - 1, HEIGHT - 1)),
    ("car", rectangle(-5, 20, 20, 40)),  # 0, cut by the left border
    ("car", rectangle(30, 10, 69, 39)),  # 1, with a hole
    ("person", rectangle(45, 18, 54, 31)),  # 0, in the hole
    ("cargroup", rectangle(100, 5, 130, 25)),  # counts for no car
    ("car", rectangle(80, 50, 140, 70)),  # 2, in two pieces and a crumb, of which one is large
    ("pole", rectangle(100, 45, 104, 75)),
    ("pole", rectangle(136, 45, 138, 75)),
    ("car", rectangle(5, 60, 15, 68)),  # 3, of 11 x 9 = 99 pixels
    ("car", rectangle(25, 60, 34, 69)),  # 4, of exactly 100 pixels
    ("car", rectangle(45, 60, 62, 80)),  # 5, all hidden
    ("bus", [[40, 55], [70, 55], [70, 85], [40, 85]]),  # 0
    ("license plate", rectangle(50, 60, 60, 64)),  # never drawn
    ("car", [[110, 95], [160, 72], [160, 95]]),  # 6, a triangle cut by a corner
]
CROSSING = [
    ("sky", rectangle(0, 0, WIDTH - 1, 10)),
    ("car", rectangle(50, 12, 65, 27)),  # 0: two pieces of 64 pixels, which touch at a corner
    ("pole", rectangle(58, 12, 65, 19)),
    ("pole", rectangle(50, 20, 57, 27)),
    ("rider", [[20, 20], [40, 22], [38, 60], [30, 40], [18, 58]]),
    ("bicycle", rectangle(15, 45, 45, 70)),
    ("motorcycle", rectangle(60, 45, 85, 70)),
    ("truck", rectangle(90, 0, 149, 60)),
    ("train", rectangle(0, 75, 149, 89)),
    ("car", rectangle(92, 30, 120, 62)),  # 1
]
FRAMES = {
    "aachen_000000_000019": ("train", STREET),
    "aachen_000001_000019": ("train", CROSSING),
    "bad-honnef_000000_000019": ("train", [("road", rectangle(0, 0, 9, 9))]),
    "weimar_000000_000019": ("train", CROSSING),
    "zurich_000005_000019": ("train", STREET),
    "munster_000173_000019": ("val", STREET),
}


def numbered(scene):
    """What the official script numbers each polygon with; None: it draws nothing."""
    seen = {}
    for label, _ in scene:
        if label in LABELS:
            seen[label] = seen.get(label, -1) + 1
            yield LABELS[label] * 1000 + seen[label]
        else:
            yield None if label == "license plate" else {"cargroup": 26}.get(label, 7)


def instance_ids(scene, height, width):
    ids = np.zeros((height, width), np.uint16)
    for (_, polygon), number in zip(scene, numbered(scene), strict=True):
        if number is not None:
            ids[covers(polygon, height, width)] = number
    return ids


def paths(root, split, name):
    city = name.split("_")[0]
    image = root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
    truth = root / "gtFine" / split / city
    return image, truth / f"{name}_gtFine_instanceIds.png"


def write(root, split, name, scene, height=HEIGHT, width=WIDTH):
    image, ids = paths(root, split, name)
    for file in (image, ids):
        file.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(name.encode())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(image)
    Image.fromarray(instance_ids(scene, height, width)).save(ids)
    for ending in ("color.png", "labelIds.png", "polygons.json"):  # official, and not needed
        (ids.parent / f"{name}_gtFine_{ending}").write_bytes(b"")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("official")
    for name, (split, scene) in FRAMES.items():
        write(root, split, name, scene)
    return root


@pytest.fixture
def official(template, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(template, tmp_path / "official")


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("prepared"))


def source(root, prepared_dir, *classes):
    options = {"classes": classes or tuple(LABELS), "limits": headers.Limits()}
    return registry.Source("cityscapes", str(root), str(prepared_dir), options)


@pytest.fixture(scope="module")
def everything(template, prepared_dir):
    found = source(template, prepared_dir)
    return {split: found.load(split) for split in ("train", "validation", "test")}


def pieces(seen):
    """The 8-connected pieces of a [H, W] bool array, found pixel by pixel."""
    left = set(zip(*np.nonzero(seen), strict=True))
    found = []
    while left:
        queue, piece = deque([left.pop()]), []
        while queue:
            y, x = queue.popleft()
            piece.append((y, x))
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            queue.extend(around)
        found.append(piece)
    return found


def expected(name):
    """{key: (mask [H, W] of what is kept, box of all that is seen)}, by brute force."""
    scene = FRAMES[name][1]
    ids = instance_ids(scene, HEIGHT, WIDTH)
    out = {}
    for number in sorted(n for n in set(numbered(scene)) - {None} if n >= 24000):
        seen = ids == number
        mask = np.zeros(ids.shape, np.uint8)
        for piece in pieces(seen):
            if len(piece) > 100:
                for y, x in piece:
                    mask[y, x] = 1
        if mask.any():
            y, x = np.nonzero(seen)
            box = (y.min(), x.min(), y.max() + 1 - y.min(), x.max() + 1 - x.min())
            out[f"{name}_{number}"] = mask, tuple(int(side) for side in box)
    return out


def split_of(name):
    if FRAMES[name][0] == "val":
        return "test"
    return "validation" if name.split("_")[0] in ("weimar", "zurich") else "train"


def test_cities_held_back_validate_and_the_official_val_tests(everything):
    for split, examples in everything.items():
        names = {key for name in FRAMES if split_of(name) == split for key in expected(name)}
        assert {example.name for example in examples} == names
        assert len(examples) == len(names)
    assert cityscapes.VALIDATION == ("weimar", "zurich")


def test_the_scene_holds_the_cases_it_was_made_for():
    name = "aachen_000000_000019"
    kept = {int(key[-5:]): value for key, value in expected(name).items()}
    assert list(kept) == [24000, 26000, 26001, 26002, 26006, 28000]
    assert kept[26000][1] == (20, 0, 21, 21)  # cut by the border
    assert kept[26001][0][25, 30] == 1 and kept[26001][0][25, 50] == 0  # a hole
    mask, (_, left, _, columns) = kept[26002]
    assert len(pieces(mask)) == 2 and mask[60, 140] == 0  # pieces, without the crumb
    assert left + columns == 141  # which counts for the box
    assert kept[26006][0][89, 149] == 1  # cut by the corner
    assert "aachen_000001_000019_26000" in expected("aachen_000001_000019")  # by a corner


def test_every_window_of_a_prepared_object_is_that_of_the_whole_image(everything, template):
    for split, examples in everything.items():
        for example in examples:
            frame, _, _ = example.name.rpartition("_")
            image = np.array(Image.open(paths(template, FRAMES[frame][0], frame)[0]))
            mask, box = expected(frame)[example.name]
            assert split == split_of(frame)
            assert example.box[2:] == box[2:]
            for percent in range(21):
                top, left, bottom, right = by_rule(box, percent, HEIGHT, WIDTH)
                y0, x0, y1, x1 = object_crops.window(example.box, percent, *example.mask.shape)
                np.testing.assert_array_equal(
                    example.image[y0:y1, x0:x1], image[top:bottom, left:right]
                )
                np.testing.assert_array_equal(
                    example.mask[y0:y1, x0:x1], mask[top:bottom, left:right]
                )
            kept = example.mask.shape
            assert kept[0] - (bottom - top) in (0, 1) and kept[1] - (right - left) in (0, 1)


def test_the_group_is_the_class(everything):
    ids = {number: name for name, number in LABELS.items()}
    for example in sum(everything.values(), []):
        assert example.group == ids[int(example.name[-5:]) // 1000]


def test_a_class_is_a_set_of_its_own_and_a_split_may_lack_it(everything, template, prepared_dir):
    riders = source(template, prepared_dir, "rider")
    assert riders.prepare() == {"train": 1, "validation": 1}  # none on the street of the test
    trains, buses = source(template, prepared_dir, "train"), source(template, prepared_dir, "bus")
    assert len(trains.load("train")) == 1
    assert [e.name for e in buses.load("test")] == ["munster_000173_000019_28000"]


def test_a_class_without_any_object_is_refused(official, tmp_path):
    for name in FRAMES:
        if FRAMES[name][1] is CROSSING:
            for file in paths(official, FRAMES[name][0], name):
                file.unlink()
    error = refused(source(official, tmp_path, "rider").prepare)
    assert "no rider" in str(error) and "3 of 2975 train, 1 of 500 val" in str(error)
    assert error.code == errors.BAD_DATA


def test_a_partial_copy_is_enough_and_is_counted(official, tmp_path, caplog):
    shutil.rmtree(official / "leftImg8bit" / "val")
    shutil.rmtree(official / "gtFine" / "val")
    with caplog.at_level(logging.INFO, logger="absl"):
        assert source(official, tmp_path, "bus").prepare() == {"train": 1, "validation": 1}
    assert "found 5 of 2975 train, 0 of 500 val frames" in caplog.text


def test_hidden_files_and_the_other_official_ones_are_passed_over(official, tmp_path):
    for file in paths(official, "train", "aachen_000000_000019"):
        (file.parent / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07")
        hidden = file.parent.parent / ".trash"
        hidden.mkdir(exist_ok=True)
        (hidden / file.name).write_bytes(b"")
    (official / "gtFine" / "train" / ".DS_Store").write_bytes(b"")
    shutil.copytree(official / "gtFine" / "val", official / "gtFine" / "test")  # as officially
    assert source(official, tmp_path, "bus").problems() == []


def test_an_image_without_the_class_is_not_opened(official, tmp_path):
    paths(official, "train", "aachen_000000_000019")[0].write_bytes(b"")
    assert source(official, tmp_path, "rider").prepare() == {"train": 1, "validation": 1}


STREET_FILES = ("train", "aachen_000000_000019")


def no_image(root):
    file = paths(root, *STREET_FILES)[0]
    file.unlink()
    return file, "is missing"


def no_ids(root):
    file = paths(root, *STREET_FILES)[1]
    file.unlink()
    return file, "is missing"


def truncated_image(root):
    return truncated(paths(root, *STREET_FILES)[0]), ""


def truncated_ids(root):
    return truncated(paths(root, *STREET_FILES)[1]), ""


def colours_for_ids(root):
    image, file = paths(root, *STREET_FILES)
    shutil.copy(image, file)
    return file, "not 16-bit grey"


def small_image(root):
    file = paths(root, *STREET_FILES)[0]
    Image.new("RGB", (WIDTH, HEIGHT - 1)).save(file)
    return file, f"has {HEIGHT - 1}x{WIDTH} pixels"


def small_ids(root):
    file = paths(root, *STREET_FILES)[1]
    Image.fromarray(np.array(Image.open(file))[:-1]).save(file)
    return file, f"; allowed is {HEIGHT - 1}x{WIDTH}, the size of "


def misnamed(root):
    files = paths(root, *STREET_FILES)
    for file in files:
        file.rename(file.with_name(file.name.replace("aachen", "bochum")))
    return files[0].with_name("bochum_000000_000019_leftImg8bit.png"), "must begin with aachen_"


def in_train_and_val(root):
    for before, after in zip(
        paths(root, *STREET_FILES), paths(root, "val", STREET_FILES[1]), strict=True
    ):
        after.parent.mkdir(exist_ok=True)
        shutil.copy(before, after)
    return root, "aachen_000000_000019 is in train and in val"


def no_layout(root):
    return emptied(root), "neither 'leftImg8bit' nor 'gtFine'"


DAMAGES = [
    no_image,
    no_ids,
    truncated_image,
    truncated_ids,
    colours_for_ids,
    small_image,
    small_ids,
    misnamed,
    in_train_and_val,
    no_layout,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_file_is_named_and_leaves_no_prepared_set(official, tmp_path, damage):
    prepared = tmp_path / "prepared"
    prepare = source(official, prepared, "car").prepare
    refused_for(*damage(official), prepare, prepared.glob("cityscapes/car/*/*"))


def test_all_bad_files_are_listed_once_whatever_the_classes(official, tmp_path):
    lost = paths(official, "val", "munster_000173_000019")[1]
    lost.unlink()
    broken = paths(official, *STREET_FILES)[1]
    broken.write_bytes(b"{")
    lines = source(official, tmp_path, "bus", "car", "person").problems()
    assert len(lines) == 2
    assert str(lost) in lines[0] and str(broken) in lines[1]


def test_rules_and_data_agree_on_classes_and_margin():
    assert schema.MARGIN == object_crops.MARGIN
    assert set(schema.CLASSES) == set(LABELS)


@pytest.mark.parametrize(
    ("argument", "classes", "train", "test", "redraw"),
    [
        ("bus,expansion", ("bus",), (10, 20), 15, True),
        ("train", ("train",), (10, 20), 15, True),
        ("car,expansion,once", ("car",), (10, 20), 15, False),
        ("bicycle,tight", ("bicycle",), (0, 0), 0, False),
        ("all,tight", schema.CLASSES, (0, 0), 0, False),
    ],
)
def test_the_config_takes_a_class_and_a_protocol(argument, classes, train, test, redraw):
    c = config_of("cityscapes", argument).cityscapes
    assert (c.classes, c.train_expansion, c.test_expansion) == (classes, train, test)
    assert c.redraw == redraw or train == (0, 0)


@pytest.mark.parametrize("argument", ["bike", "bus,loose", "bus,tight,once", ",tight", "x"])
def test_another_argument_is_refused_with_the_known_ones(argument):
    error = refused(config_of, "cityscapes", argument)
    assert argument in str(error) and "motorcycle" in str(error) and ",tight" in str(error)


def test_a_config_gives_square_images_to_train_on_and_masks_at_their_own_size(
    template, prepared_dir
):
    config = config_of("cityscapes", "car,expansion")
    config.data.dir, config.data.prepared_dir = str(template), prepared_dir
    example = datasets.source(config).load("train")[0]
    image, mask = datasets.crop_fn(config)(np.random.default_rng(0), example)
    assert image.shape == (128, 128, 3) and mask.shape == (128, 128)
    for scored in datasets.scored_examples(config, "test"):
        box = expected("munster_000173_000019")[scored.name][1]
        top, left, bottom, right = by_rule(box, 15, HEIGHT, WIDTH)
        assert scored.image.shape == (128, 128, 3)
        assert scored.mask.shape == (bottom - top, right - left)


PREPARE = """
import resource, sys, time
from segdiff_jax.data.datasets import registry
from segdiff_jax.data.image_io import reading
options = {"classes": ("bus",), "limits": reading.Limits()}
begin = time.monotonic()
print(registry.Source("cityscapes", sys.argv[1], sys.argv[2], options).prepare())
seconds = time.monotonic() - begin
unit = 2**30 if sys.platform == "darwin" else 2**20
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
print(f"{peak:.2f} GB, {seconds:.0f} s")
"""


@pytest.mark.slow
def test_300_full_size_frames_are_prepared_in_less_than_2_gigabytes(tmp_path):
    # Noise, which PNG cannot make smaller, so that TFDS has more than the 1 GB it holds in memory.
    # One frame under 300 names: links take no room.
    buses = [("bus", rectangle(x, 100, x + 639, 899)) for x in (20, 700, 1380)]
    root = tmp_path / "official"
    for number in range(300):
        name = f"aachen_{number:06d}_000019"
        if number == 0:
            write(root, "train", name, buses, 1024, 2048)
            first = paths(root, "train", name)
        else:
            for target, file in zip(first, paths(root, "train", name), strict=True):
                file.hardlink_to(target)
    command = [sys.executable, "-W", "error", "-c", PREPARE, str(root), str(tmp_path / "prepared")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    output = done.stdout
    written = sum(f.stat().st_size for f in tmp_path.glob("prepared/**/*") if f.is_file())
    print(f"{output.strip()}, {written / 2**30:.2f} GB written")
    assert "{'train': 900}" in output and written > 2**30
    assert float(re.search(r"([\d.]+) GB", output)[1]) < 2


def test_tfds_own_calls_prepare_and_load_the_same(template, prepared_dir, tmp_path):
    """One class at a time, as each is a set of its own."""
    found = source(template, prepared_dir, "bus")
    tfds_calls.check("cityscapes", found, tmp_path, template, classes=("bus",))
    with pytest.raises(errors.UserError, match="these options make 2 sets"):
        found = source(template, prepared_dir, "bus", "car")
        tfds_calls.check("cityscapes", found, tmp_path / "two", template, classes=("bus", "car"))
