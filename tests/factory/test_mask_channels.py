"""A run that learns the interiors of objects: config, training on a folder, prediction."""

import logging
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from tiny_config import config_of, tiny, write_run

import segdiff_jax
from segdiff_jax import train
from segdiff_jax.config import schema
from segdiff_jax.data.channels import interior
from segdiff_jax.data.example import Example
from segdiff_jax.errors import UserError
from segdiff_jax.evaluation.labelling import label
from segdiff_jax.export.answer import answer
from segdiff_jax.factory import datasets, networks, training

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


def write_pairs(home, labels):
    for place in ("images", "masks"):
        (home / place).mkdir(parents=True, exist_ok=True)
    for name in "abcd":
        Image.fromarray(np.repeat(labels[..., None] * np.uint8(90), 3, -1)).save(
            home / "images" / f"{name}.png"
        )
        Image.fromarray(labels).save(home / "masks" / f"{name}.png")


def folder_config(tmp_path, objects="interior"):
    labels = np.zeros((24, 32), np.uint8)
    labels[4:20, 3:16], labels[4:20, 16:29] = 1, 2
    write_pairs(tmp_path / "own", labels)
    c = tiny()
    c.data.name, c.data.dir = "folder", str(tmp_path / "own")
    c.data.prepared_dir = str(tmp_path / "prepared")
    c.folder.test_share = c.folder.validation_share = 0.0
    c.diffusion.prediction, c.model.objects = "logit", objects
    c.train.steps = 2
    return c, labels


def test_an_example_to_train_on_has_the_interiors_of_its_objects_as_a_second_bit(tmp_path):
    c, labels = folder_config(tmp_path)
    examples = datasets.training_examples(c)
    assert len(examples) == 4
    np.testing.assert_array_equal(examples[0].mask & 1, labels > 0)
    np.testing.assert_array_equal(examples[0].mask >> 1, interior(labels))
    rows = next(training.batches(examples, 4, 0, channels=2))
    assert rows.mask.shape == (4, 24, 32) and rows.mask.max() == 3


def test_labels_that_are_not_used_get_a_line(tmp_path, caplog):
    caplog.set_level(logging.INFO, "absl")
    c, labels = folder_config(tmp_path, "none")
    assert datasets.training_examples(c)[0].mask.max() == 1
    assert "4 of 4 images have labels of objects: --config.model.objects=int" in caplog.text


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_masks_of_several_annotators_ask_for_samples_from_the_first_update(tmp_path, caplog, share):
    caplog.set_level(logging.INFO, "absl")
    c, labels = folder_config(tmp_path, "none")
    for k in (1, 2):
        shutil.copytree(tmp_path / "own" / "masks", tmp_path / "own" / f"masks_{k}")
    shutil.rmtree(tmp_path / "own" / "masks")
    c.train.share_at_T = share
    datasets.training_examples(c)
    assert ("--config.train.share_at_T=0 learns" in caplog.text) == bool(share)


def test_a_set_that_knows_no_objects_is_refused():
    c = tiny()
    c.model.objects = "interior"
    with pytest.raises(UserError, match=r"model\.objects='interior'"):
        datasets.training_examples(c)


@pytest.mark.parametrize("kind", ["diffusion", pytest.param("twin", marks=pytest.mark.slow)])
def test_the_network_has_a_second_channel_and_predicts_with_it(kind, tmp_path):
    c = tiny()
    c.model.objects, c.model.kind, c.diffusion.prediction = "interior", kind, "logit"
    if kind == "twin":
        c.sampling.generations = 1
    else:
        c.sampling.budget, c.sampling.samples = "balanced", 3
    assert networks.channels(c).count == 2
    write_run(c, tmp_path / "run", 6)
    model = segdiff_jax.load(tmp_path / "run")
    found = model.predict(IMAGE)
    inside = found.evidence.interiors.probability
    assert inside.shape == found.mask.shape == (24, 40) and 0 <= inside.min() < inside.max() <= 1
    assert not np.array_equal(inside, found.probability)
    np.testing.assert_array_equal(found.objects.labels, label(found.mask, inside))
    assert found.count[0.8].value == label(found.mask, inside).max()


@pytest.mark.slow
def test_an_exported_program_answers_with_the_foreground(tmp_path):
    c = tiny()
    c.model.objects, c.model.kind, c.sampling.generations = "interior", "twin", 1
    write_run(c, tmp_path / "run", 6)
    model, square = segdiff_jax.load(tmp_path / "run"), IMAGE[:16, :16]
    probability, _ = jax.jit(answer(model))(square, jax.random.key_data(model.key()))
    np.testing.assert_allclose(probability, model.predict(square).probability, atol=1e-5)


@pytest.mark.slow
def test_training_takes_steps_on_both_channels_and_the_run_predicts(tmp_path):
    c, labels = folder_config(tmp_path)
    c.data.mean = c.data.std = ()
    c.data.test_split = "train"
    state = train.train(c, tmp_path / "run")
    assert int(state.step) == 2
    assert {leaf.shape[-1] for leaf in jax.tree.leaves(state.params["unet"]["out"])} == {2}
    found = segdiff_jax.load(tmp_path / "run").predict(IMAGE)
    assert found.evidence.interiors is not None


def test_an_object_of_cityscapes_has_the_class_of_its_group_also_when_it_is_cropped():
    c = config_of("cityscapes", "classes")
    names = networks.channels(c).classes
    assert names == schema.CLASSES and networks.channels(c).count == 9
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 8:20] = 1
    image = np.zeros((20, 30, 3), np.uint8)
    one = Example(image, mask, "a", box=(5, 8, 10, 12), group="bus")
    found = datasets.with_class(one)
    np.testing.assert_array_equal(found.classes, mask * (1 + names.index("bus")))
    cropped = datasets.source(c).eval_crop(found)
    np.testing.assert_array_equal(cropped.classes, cropped.mask * (1 + names.index("bus")))
    assert cropped.mask.any()
