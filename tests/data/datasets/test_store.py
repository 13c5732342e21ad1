"""Preparing and reading data sets through TFDS, on small copies of the official layouts."""

import logging
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tfds_calls
from PIL import Image
from refusals import emptied, refused, refused_for, truncated

from segdiff_jax import errors
from segdiff_jax.data.datasets import monuseg, monuseg_images, registry, store, synthetic

TRAIN, VALIDATION = "TCGA-18-5592-01Z-00-DX1", monuseg.VALIDATION[1]
TEST = "TCGA-2Z-A9J9-01A-01-TS1"
TRAINING_FOLDER = "MoNuSeg 2018 Training Data"
# left, top, right, bottom; the bars are so narrow that resizing tells its kernels apart
RECTANGLES = [(100, 200, 300, 260), *((left, 500, left + 1, 900) for left in range(10, 990, 7))]


def annotation(*rectangles):
    regions = ""
    for left, top, right, bottom in rectangles:
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners)
        regions += f"<Region>{vertices}</Region>"
    return f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>"


def write_pair(images, annotations, name, seed):
    images.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    image = Image.fromarray(colours).resize((1000, 1000), Image.Resampling.NEAREST)
    image.save(images / f"{name}.tif", compression="tiff_lzw")
    (annotations / f"{name}.xml").write_text(annotation(*RECTANGLES))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    training = folder / TRAINING_FOLDER
    for seed, name in enumerate((TRAIN, VALIDATION)):
        write_pair(training / "Tissue Images", training / "Annotations", name, seed)
    write_pair(folder / "MoNuSegTestData", folder / "MoNuSegTestData", TEST, 2)
    return folder


@pytest.fixture
def official(template, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(template, tmp_path / "official")


@pytest.fixture(scope="module")
def prepared_dir(template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    assert registry.Source("monuseg", str(template), str(folder)).prepare() == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }
    return str(folder)


@pytest.fixture
def few_drawings(monkeypatch):
    monkeypatch.setattr(synthetic, "COUNTS", {"train": 4, "validation": 2, "test": 2})


def test_official_files_become_train_validation_and_test(prepared_dir):
    names = {
        split: [
            example.name for example in registry.Source("monuseg", "", prepared_dir).load(split)
        ]
        for split in ("train", "validation", "test")
    }
    assert names == {"train": [TRAIN], "validation": [VALIDATION], "test": [TEST]}


def test_the_validation_images_are_four_training_images_of_four_organs():
    assert monuseg.VALIDATION == (
        "TCGA-50-5931-01Z-00-DX1",
        "TCGA-AR-A1AS-01Z-00-DX1",
        "TCGA-B0-5698-01Z-00-DX1",
        "TCGA-G9-6362-01Z-00-DX1",
    )


def test_an_example_is_the_official_image_and_the_filled_outline_at_512(template, prepared_dir):
    (example,) = registry.Source("monuseg", "", prepared_dir).load("test")
    file = Image.open(template / "MoNuSegTestData" / f"{TEST}.tif")
    np.testing.assert_array_equal(
        example.image, np.array(file.resize((512, 512), Image.Resampling.BILINEAR))
    )
    full = np.zeros((1000, 1000), np.uint8)
    for left, top, right, bottom in RECTANGLES:
        full[top:bottom, left:right] = 1
    nearest = ((np.arange(512) + 0.5) * 1000 / 512).astype(int)
    np.testing.assert_array_equal(example.mask, full[np.ix_(nearest, nearest)])
    assert example.image.dtype == example.mask.dtype == np.uint8


def test_joined_splits_come_in_the_order_written(prepared_dir):
    examples = registry.Source("monuseg", "", prepared_dir).load("validation+train")
    assert [example.name for example in examples] == [VALIDATION, TRAIN]


@pytest.mark.parametrize("split", ["training", "", "train+", "train+train", "train,test"])
def test_an_unknown_split_is_refused_with_the_known_ones(prepared_dir, split):
    error = refused(registry.Source("monuseg", "", prepared_dir).load, split)
    assert repr(split) in str(error) and "train, validation, test" in str(error)
    assert error.code == errors.USAGE


def test_an_unknown_data_set_is_refused_with_the_known_ones(tmp_path):
    error = refused(registry.Source("monusac", "", str(tmp_path)).load, "train")
    assert "'monusac'" in str(error) and "synthetic, monuseg" in str(error)


@pytest.mark.parametrize(
    ("missing", "splits", "found"),
    [
        (TRAINING_FOLDER, {"test": 1}, "0 of 30 training, 1 of 14 test"),
        ("MoNuSegTestData", {"train": 1, "validation": 1}, "2 of 30 training, 0 of 14 test"),
    ],
)
def test_a_partial_copy_is_enough_and_is_counted(
    official, tmp_path, caplog, missing, splits, found
):
    shutil.rmtree(official / missing)
    with caplog.at_level(logging.INFO, logger="absl"):
        assert registry.Source("monuseg", str(official), str(tmp_path)).prepare() == splits
    assert f"found {found} images" in caplog.text
    absent = "train" if "train" not in splits else "test"
    assert absent in str(refused(registry.Source("monuseg", "", str(tmp_path)).load, absent))


def test_the_official_images_are_thirty_and_fourteen_and_none_is_both():
    """Validation images are training images; the 37 of copies have seven more."""
    training, test = monuseg_images.TRAINING, monuseg_images.TEST
    assert (len(training), len(test), len(training & test)) == (30, 14, 0)
    assert set(monuseg.VALIDATION) < training and TRAIN in training and TEST in test


def test_images_that_are_not_official_are_left_out_and_a_test_image_never_trains(
    official, tmp_path, caplog
):
    training = official / TRAINING_FOLDER
    for seed, name in enumerate((TEST, "TCGA-UZ-A9PN-01Z-00-DX1", "mine"), 5):
        write_pair(training / "Tissue Images", training / "Annotations", name, seed)
    (training / "Annotations" / "mine.xml").unlink()
    write_pair(official / "MoNuSegTestData", official / "MoNuSegTestData", TRAIN, 9)
    source = registry.Source("monuseg", str(official), str(tmp_path))
    with caplog.at_level(logging.INFO, logger="absl"):
        assert source.prepare() == {"train": 1, "validation": 1, "test": 1}
    others = "3 images are left out, as they are none of the 30 official training images"
    assert f"{others}, 1 of them test images: TCGA-2Z" in caplog.text
    assert "1 images are left out, as they are none of the 14 official test images" in caplog.text
    names = {split: [e.name for e in source.load(split)] for split in ("train", "test")}
    assert names == {"train": [TRAIN], "test": [TEST]}


def test_a_folder_without_an_official_image_is_refused(official, tmp_path):
    folder = official / "MoNuSegTestData"
    for suffix in ("tif", "xml"):
        (folder / f"{TEST}.{suffix}").rename(folder / f"other.{suffix}")
    error = refused(registry.Source("monuseg", str(official), str(tmp_path)).prepare)
    assert "holds none of the 14 official test images" in str(error)


def test_hidden_copies_of_a_mac_and_stray_annotations_are_passed_over(official, tmp_path):
    folder = official / "MoNuSegTestData"
    (folder / f"._{TEST}.tif").write_bytes(b"\x00\x05\x16\x07")
    (folder / "annotation without an image.xml").write_text("")
    assert registry.Source("monuseg", str(official), str(tmp_path)).prepare()["test"] == 1


def no_annotation(folder):
    file = folder / TRAINING_FOLDER / "Annotations" / f"{TRAIN}.xml"
    file.unlink()
    return file, "is missing"


def truncated_image(folder):
    file = folder / TRAINING_FOLDER / "Tissue Images" / f"{TRAIN}.tif"
    return truncated(file), "cannot be read"


def text_for_an_image(folder):
    file = folder / "MoNuSegTestData" / f"{TEST}.tif"
    file.write_text("not found")
    return file, "cannot be read"


def resized_image(folder):
    file = folder / "MoNuSegTestData" / f"{TEST}.tif"
    Image.new("RGB", (512, 500)).save(file)
    return file, "is RGB of 512x500 pixels; official images are RGB of 1000x1000"


def grey_image(folder):
    file = folder / "MoNuSegTestData" / f"{TEST}.tif"
    Image.new("I;16", (1000, 1000)).save(file)
    return file, "is I;16 of 1000x1000"


def broken_annotation(folder):
    file = folder / "MoNuSegTestData" / f"{TEST}.xml"
    file.write_text(file.read_text()[:-20])
    return file, "not readable XML"


def no_regions(folder):
    file = folder / "MoNuSegTestData" / f"{TEST}.xml"
    file.write_text("<Annotations/>")
    return file, "holds no <Region>"


def vertex_in_words(folder):
    file = folder / "MoNuSegTestData" / f"{TEST}.xml"
    file.write_text(file.read_text().replace('"260"', '"many"', 1))
    return file, "not two numbers in region 1"


def outlines_elsewhere(folder):
    file = folder / "MoNuSegTestData" / f"{TEST}.xml"
    file.write_text(annotation((2000, 2000, 2100, 2100)))
    return file, "no region covers a pixel"


def empty_folder(folder):
    for file in (folder / "MoNuSegTestData").iterdir():
        file.unlink()
    return folder / "MoNuSegTestData", "no .tif image"


def no_layout(folder):
    return emptied(folder), "neither 'MoNuSeg 2018 Training Data' nor 'MoNuSegTestData'"


def no_folder(folder):
    shutil.rmtree(folder)
    return folder, "neither 'MoNuSeg 2018 Training Data' nor 'MoNuSegTestData'"


DAMAGES = [
    no_annotation,
    truncated_image,
    text_for_an_image,
    resized_image,
    grey_image,
    broken_annotation,
    no_regions,
    vertex_in_words,
    outlines_elsewhere,
    empty_folder,
    no_layout,
    no_folder,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_file_is_named_and_leaves_no_prepared_set(official, tmp_path, damage):
    prepared = tmp_path / "prepared"
    prepare = registry.Source("monuseg", str(official), str(prepared)).prepare
    refused_for(*damage(official), prepare, prepared.glob("monuseg/*/*"))


def test_a_set_is_prepared_again_only_when_its_files_change(
    official, tmp_path, caplog, monkeypatch
):
    source = registry.Source("monuseg", str(official), str(tmp_path))
    source.prepare()
    with monkeypatch.context() as patch:
        patch.setattr(
            store.lock, "locked", lambda *_, **__: 1 / 0
        )  # the folder may be read-only by now
        assert len(source.load("train")) == 1

    another = "TCGA-ZF-A9R5-01A-01-TS1"
    write_pair(official / "MoNuSegTestData", official / "MoNuSegTestData", another, 3)
    with caplog.at_level(logging.INFO, logger="absl"):
        assert source.prepare()["test"] == 2
    assert caplog.text.count("prepared again") == 1

    # A bad file does not cost the set that is there.
    truncated_image(official)
    refused(source.prepare)
    assert len(registry.Source("monuseg", "", str(tmp_path)).load("test")) == 2


def test_without_files_and_prepared_set_the_user_learns_what_to_download(tmp_path):
    error = refused(registry.Source("monuseg", "", str(tmp_path)).load, "train")
    assert error.code == errors.BAD_DATA
    for part in ("monuseg.grand-challenge.org", "config.data.dir", str(tmp_path)):
        assert part in str(error)


def test_a_home_folder_may_be_written_with_a_tilde(tmp_path, monkeypatch, few_drawings):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(registry.Source("synthetic", "", "~/sets").load("train")) == 4
    assert (tmp_path / "sets" / "synthetic").is_dir()


def test_two_preparations_of_the_drawings_are_equal(tmp_path, few_drawings):
    first, second = (
        registry.Source("synthetic", "", str(tmp_path / f)).load("train") for f in "ab"
    )
    for a, b, index in zip(first, second, range(4), strict=True):
        image, mask = synthetic.draw("train", index)
        assert a.name == b.name == f"train-000{index}"
        assert (a.image == b.image).all() and (a.image == image).all()
        assert (a.mask == b.mask).all() and (a.mask == mask).all()


def test_drawings_of_other_code_are_prepared_again(tmp_path, few_drawings, monkeypatch):
    registry.Source("synthetic", "", str(tmp_path)).prepare()
    monkeypatch.setattr(synthetic, "SEED", 1)
    (example, *_) = registry.Source("synthetic", "", str(tmp_path)).load("test")
    assert (example.image == synthetic.draw("test", 0)[0]).all()


def test_a_damaged_prepared_set_is_named(template, tmp_path):
    registry.Source("monuseg", str(template), str(tmp_path)).prepare()
    home = tmp_path / "monuseg" / "1.1.0"
    (shard,) = home.glob("*test*array_record*")
    shard.write_bytes(shard.read_bytes()[:5000])
    error = refused(registry.Source("monuseg", "", str(tmp_path)).load, "test")
    assert str(home) in str(error) and "delete that folder" in str(error)
    (home / "dataset_info.json").write_text("{")
    error = refused(registry.Source("monuseg", "", str(tmp_path)).load, "test")
    assert str(home) in str(error) and error.code == errors.BAD_DATA


def test_a_folder_that_cannot_be_written_is_named(tmp_path, few_drawings):
    (tmp_path / "file").write_text("")
    error = refused(registry.Source("synthetic", "", str(tmp_path / "file")).prepare)
    assert str(tmp_path / "file") in str(error) and error.code == errors.CANNOT_WRITE


def test_a_failed_preparation_cleans_up(tmp_path, few_drawings, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(synthetic.base, "record", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            registry.Source("synthetic", "", str(tmp_path)).prepare()
    assert [path.name for path in (tmp_path / "synthetic").iterdir()] == [".lock"]


PROGRAM = """
import sys
from segdiff_jax.data.datasets import registry
assert "tensorflow_datasets" not in sys.modules  # importing the registry is cheap
from segdiff_jax.data.datasets import synthetic
synthetic.COUNTS = {"train": 4, "test": 2}
"""


def run(program, *arguments):
    command = [sys.executable, "-W", "error", "-c", PROGRAM + program, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def test_a_killed_preparation_leaves_nothing_that_is_read(tmp_path, few_drawings):
    dying = """
import os
draw = synthetic.draw
synthetic.draw = lambda split, index: os._exit(9) if split == "test" else draw(split, index)
registry.Source("synthetic", "", sys.argv[1]).prepare()
"""
    process = run(dying, tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 9, output
    left = [path.name for path in (tmp_path / "synthetic").iterdir()]
    assert sorted(left) == [".lock", ".lock-holder", "incomplete"]
    assert len(registry.Source("synthetic", "", str(tmp_path)).load("test")) == 2
    assert not (tmp_path / "synthetic" / "incomplete").exists()


def test_of_processes_that_prepare_at_once_one_does_and_none_needs_tensorflow(tmp_path):
    slow = """
import time
draw, drawn = synthetic.draw, []
synthetic.draw = lambda *which: (time.sleep(0.2), drawn.append(which), draw(*which))[2]
from segdiff_jax.data.datasets import store
print("ready", flush=True)
input()
examples = registry.Source("synthetic", "", sys.argv[1]).load("train+test")
print(len(examples), len(drawn), "tensorflow" in sys.modules)
"""
    processes = [run(slow, tmp_path) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = sorted(process.communicate()[0] for process in processes)
    # The fingerprint takes one drawing, the set six.
    assert outputs == ["6 1 False\n", "6 7 False\n"]


@pytest.mark.skipif("SEGDIFF_MONUSEG" not in os.environ, reason="needs the official MoNuSeg files")
def test_the_official_files_fit_in_45_megabytes(tmp_path):
    begin = time.monotonic()
    counts = registry.Source("monuseg", os.environ["SEGDIFF_MONUSEG"], str(tmp_path)).prepare()
    seconds = time.monotonic() - begin
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    print(f"{counts}, {size / 1e6:.1f} MB, {seconds:.1f} s")
    assert size < 45e6
    examples = registry.Source("monuseg", "", str(tmp_path)).load("+".join(counts))
    assert len({example.name for example in examples}) == sum(counts.values())
    assert {e.name for e in examples[: counts["train"]]}.isdisjoint(monuseg.VALIDATION)
    for example in examples:
        assert example.image.shape == (512, 512, 3) and example.mask.shape == (512, 512)
        assert 0.05 < example.mask.mean() < 0.5, example.name


def test_tfds_own_calls_prepare_and_load_the_same(template, prepared_dir, tmp_path):
    source = registry.Source("monuseg", str(template), prepared_dir)
    tfds_calls.check("monuseg", source, tmp_path, template)
