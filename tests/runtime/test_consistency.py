"""Processes of a job that were started with different settings end before they compile."""

import shutil

import numpy as np
import pytest
from tiny_config import ROOT, tiny

from segdiff_jax import __version__, errors
from segdiff_jax.config import flatten
from segdiff_jax.data.example import Example
from segdiff_jax.runtime import consistency


def facts(processes=3, **changes):
    config = tiny()
    for key, value in changes.items():
        config[key.split("__")[0]][key.split("__")[1]] = value
    return consistency.run_facts(__version__, flatten(config), ROOT, "train", processes)


def test_processes_started_alike_agree_wherever_their_data_are():
    consistency.compare([facts(), facts(data__dir="/elsewhere"), facts()])


def test_a_difference_names_the_process_the_key_and_both_values():
    per_process = [facts(), facts(), facts(train__batch_size=16) | {"jax": "0.0.1"}]
    with pytest.raises(errors.UserError) as caught:
        consistency.compare(per_process)
    assert caught.value.code == errors.USAGE
    message = str(caught.value)
    assert message.startswith("process 2 of 3 differs from process 0: jax is 0.0.1, not ")
    assert "config.train.batch_size is 16, not 8" in message


def test_another_number_of_processes_is_a_difference():
    with pytest.raises(errors.UserError, match="process 1 of 2 .*: processes is 3, not 2; all"):
        consistency.compare([facts(processes=2), facts(processes=3)])


def test_a_key_that_one_side_lacks_is_a_difference():
    with pytest.raises(errors.UserError, match="x is None, not 1"):
        consistency.compare([{"x": "1"}, {}])


def test_other_sources_of_the_same_version_are_a_difference(tmp_path, monkeypatch):
    before = facts()["segdiff_jax"]
    copied = shutil.copytree(ROOT / "segdiff_jax", tmp_path / "segdiff_jax")
    monkeypatch.setattr(consistency, "__file__", str(copied / "runtime" / "consistency.py"))
    assert facts()["segdiff_jax"] == before
    with (copied / "training" / "step.py").open("a") as file:
        file.write("# one line more\n")
    assert facts()["segdiff_jax"] != before


def test_another_pixel_name_or_number_of_examples_is_a_difference():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(256, size=(6, 5, 3), dtype=np.uint8), np.zeros((6, 5), np.uint8)
    examples = [Example(image, mask, name) for name in "abc"]
    other = image.copy()
    other[3, 2, 1] ^= 1
    changed = mask.copy()
    changed[0, 0] = 1
    variants = [
        examples,
        examples[:2],
        [*examples[:2], Example(image, mask, "d")],
        [*examples[:2], Example(other, mask, "c")],
        [*examples[:2], Example(image, changed, "c")],
        [*examples[:2], Example(image, examples[2].mask, "c", annotations=changed[None])],
    ]
    found = {tuple(consistency.data_facts(v, "train").items()) for v in variants}
    assert len(found) == len(variants)
    assert consistency.data_facts(examples, "train") == consistency.data_facts(examples, "train")
