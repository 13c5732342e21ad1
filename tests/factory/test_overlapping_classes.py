"""A run whose classes overlap: config, training on folders of masks, scores, outputs."""

import csv
import json
import logging

import numpy as np
import pytest
from PIL import Image
from tiny_config import config_of, tiny, write_run

import segdiff_jax
from segdiff_jax import predict, train
from segdiff_jax.config import validate
from segdiff_jax.errors import UserError
from segdiff_jax.evaluate import evaluate
from segdiff_jax.factory import datasets, networks
from segdiff_jax.review import calibrate

NAMES = ("organ", "lesion")
TEXT = "organ=masks_organ,lesion=masks_lesion"
SIDE = 32
DICE = 0.9  # at least


def scene(seed):
    """Returns a picture, and the masks of an organ and of a lesion, mostly within it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    cy, cx = rng.integers(11, 21, 2)
    organ = np.hypot(y - cy, x - cx) < rng.uniform(8, 11)
    cy, cx = cy + rng.integers(-6, 7), cx + rng.integers(-6, 7)
    lesion = np.hypot(y - cy, x - cx) < rng.uniform(3.5, 5)
    image = rng.integers(30, 60, (SIDE, SIDE, 3))
    image[..., 0] += 150 * organ
    image[..., 1] += 150 * lesion
    return image.astype(np.uint8), np.stack([organ, lesion])


def folder_of(home, count=8):
    for split, number in (("train", count), ("validation", 4), ("test", 4)):
        for k in range(number):
            image, masks = scene(1000 * len(split) + k)
            for kind, pixels in (("images", image), *zip(TEXT.split(","), masks, strict=True)):
                place = home / split / kind.rpartition("=")[2]
                place.mkdir(parents=True, exist_ok=True)
                values = pixels if kind == "images" else pixels * np.uint8(255)
                Image.fromarray(values).save(place / f"{k}.png")
    return home


def on_folder(c, tmp_path):
    c.data.name, c.data.dir = "folder", str(folder_of(tmp_path / "own"))
    c.data.prepared_dir, c.folder.classes = str(tmp_path / "prepared"), TEXT
    c.data.mean = c.data.std = ()
    return c


def test_the_network_has_a_channel_of_each_class_and_of_their_union(tmp_path):
    c = on_folder(tiny(), tmp_path)
    channels = networks.channels(c)
    assert channels.classes == NAMES and channels.overlap and channels.count == 3
    examples = datasets.training_examples(c)
    for one in examples:
        masks = scene(5000 + int(one.name))[1]
        np.testing.assert_array_equal(bits_of(one), [masks.any(axis=0), *masks])


def bits_of(example):
    return np.stack([example.mask >> k & 1 for k in range(3)]) > 0


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("folder.mask_suffix", "_a", "these say where the masks are"),
        ("model.objects", "interior", "objects of two may lie in one another"),
        ("folder.classes", "organ=1,lesion=masks_lesion", r"NAME=FOLDER of the masks for each"),
    ],
)
def test_what_does_not_go_with_classes_that_overlap_is_one_line(name, value, what):
    c = tiny()
    c.data.name = "folder"
    c.folder.classes = TEXT
    c.update_from_flattened_dict({name: value})
    with pytest.raises(UserError, match=f"config.{name}=.*{what}") as caught:
        validate.check(c)
    assert "\n" not in str(caught.value)


def test_a_prediction_has_the_probability_of_each_and_their_union_as_foreground(tmp_path):
    c = tiny()
    c.data.name, c.folder.classes, c.diffusion.prediction = "folder", TEXT, "logit"
    c.sampling.budget, c.sampling.samples = "balanced", 3
    write_run(c, tmp_path / "run", 6)
    model = segdiff_jax.load(tmp_path / "run")
    assert model.overlap and model.class_names == NAMES
    found = model.predict(scene(0)[0])
    assert found.class_probability.shape == found.classes.shape == (2, SIDE, SIDE)
    np.testing.assert_array_equal(found.probability, found.class_probability.max(axis=0))
    middle = float(np.median(found.class_probability))
    moved = found.at(middle)
    np.testing.assert_array_equal(moved.classes, found.class_probability > middle)
    np.testing.assert_array_equal(moved.mask, moved.classes.max(axis=0))
    whole = found.evidence.decisions
    np.testing.assert_array_equal(whole, found.evidence.classes.decisions > 0)


def test_pictures_of_one_folder_of_masks_cannot_calibrate_it(tmp_path):
    model = type("Model", (), {"overlap": True})
    command = type("Command", (), {"images": tmp_path, "masks": tmp_path / "masks"})
    with pytest.raises(UserError, match=r"each has masks of its own; allowed is --split=NAME"):
        calibrate.calibrate(command, model)


@pytest.mark.slow
def test_both_classes_are_found_one_within_the_other_after_seconds(tmp_path, caplog):
    caplog.set_level(logging.INFO, "absl")
    c, run = on_folder(config_of("discs"), tmp_path), tmp_path / "run"
    c.model.channels, c.model.multipliers, c.train.steps = 8, (1, 2), 120
    train.train(c, run)
    evaluate(c, run)
    report = json.loads((run / "report" / "report.json").read_text())
    scores = {name: x["together"]["dice"] for name, x in report["classes"]["classes"].items()}
    assert min(scores.values()) >= DICE, scores
    assert report["classes"]["mean"]["together"]["dice"] == pytest.approx(
        np.mean([*scores.values()])
    )
    test, out = tmp_path / "own" / "test", tmp_path / "out"
    words = [f"--workdir={run}", f"--input={test / 'images'}", f"--output={out}", "--outputs=all"]
    assert predict.main(words) == 0
    inside = 0
    for file in sorted((out / "mask").iterdir()):
        found = [np.asarray(Image.open(out / "classes" / name / file.name)) > 0 for name in NAMES]
        np.testing.assert_array_equal(np.asarray(Image.open(file)) > 0, np.any(found, axis=0))
        inside += np.count_nonzero(np.all(found, axis=0))
    truth = [np.asarray(Image.open(test / "masks_lesion" / f"{k}.png")) > 0 for k in range(4)]
    organs = [np.asarray(Image.open(test / "masks_organ" / f"{k}.png")) > 0 for k in range(4)]
    shared = sum(np.count_nonzero(a & b) for a, b in zip(truth, organs, strict=True))
    assert 0.8 * shared < inside < 1.2 * shared
    with open(out / "objects.csv", newline="") as file:
        kinds = {line["class"] for line in csv.DictReader(file)}
    assert kinds == {*NAMES}


@pytest.mark.slow
def test_a_run_resumes_and_is_not_continued_with_other_classes(tmp_path):
    c = on_folder(tiny(), tmp_path)
    c.diffusion.prediction, c.train.steps = "logit", 2
    assert int(train.train(c, tmp_path / "run").step) == 2
    c.train.steps = 4
    assert int(train.train(c, tmp_path / "run").step) == 4
    c.folder.classes = "organ=masks_organ"
    with pytest.raises(UserError, match=r"folder\.classes"):
        train.train(c, tmp_path / "run")
