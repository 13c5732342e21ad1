"""A run remembers how its images were read; configs of earlier versions say it otherwise."""

import json
from functools import partial

import pytest
from refusals import refused
from tiny_config import tiny

from segdiff_jax.checkpoint import run_config


def written(workdir, changes=(), without=()):
    """Writes the config of a run; returns the directory."""
    config = tiny()
    config.data.name = "folder"
    for key, value in changes:
        config.update_from_flattened_dict({key: value})
    run_config.write_config(config, workdir)
    saved = json.loads((workdir / "config.json").read_text())
    for name in without:
        del saved["reading"][name]
    (workdir / "config.json").write_text(json.dumps(saved))
    return workdir


@pytest.mark.parametrize("value", ["auto", "full", "0,4095"])
def test_a_run_remembers_the_range_it_was_trained_with(tmp_path, value):
    workdir = written(tmp_path, [("reading.value_range", value)])
    assert run_config.read_config(workdir).reading.value_range == value
    given = tiny()
    given.data.name = "folder"
    assert run_config.check_evaluation(given, workdir).reading.value_range == value
    assert given.reading.value_range == "auto"  # the caller's stays as it is
    given.reading.value_range = "1,2"
    assert run_config.check_evaluation(given, workdir).reading.value_range == "1,2"


@pytest.mark.parametrize(
    "mean, std, expected",
    [
        ((127.5,) * 3, (127.5,) * 3, "auto"),
        ((44.7, 40.3, 49.8), (67.2, 61.7, 76.0), "auto"),
        ((8.0, 9.0, 8.0), (3.0, 4.0, 3.0), "full"),  # 12 bits divided by 65535
        ((25.0, 9.0, 8.0), (16.0, 4.0, 3.0), "full"),  # 14 bits
        ((), (), "full"),
    ],
)
def test_an_earlier_run_reads_as_it_was_trained(tmp_path, mean, std, expected):
    changes = [("data.mean", mean), ("data.std", std)]
    newer = "value_range", "channels"
    assert run_config.read_config(written(tmp_path, changes, newer)).reading.value_range == expected
    saved = json.loads((tmp_path / "config.json").read_text())
    saved["data"]["name"] = "monuseg"  # whose files have 8 bits
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert run_config.read_config(tmp_path).reading.value_range == "auto"


def start(place, workdir, **changes):
    config = tiny()
    config.train.start_from = str(place)
    config.data.mean, config.data.std = (1.0, 2.0, 3.0), (1.0, 1.0, 1.0)
    for key, value in changes.items():
        config.model[key] = value
    return run_config.start_of(config, workdir)


def test_a_training_that_begins_with_weights_has_their_statistics(run_of_chance, tmp_path, caplog):
    config, source = start(run_of_chance, tmp_path)
    assert "in place of (1.0, 2.0, 3.0) and (1.0, 1.0, 1.0)" in caplog.text
    assert source == run_of_chance
    assert config.data.mean == tiny().data.mean and config.data.std == tiny().data.std
    config, source = run_config.start_of(tiny(), tmp_path)
    assert source is None and config.data.mean == tiny().data.mean


def test_a_run_that_is_there_goes_on_without_the_weights_it_began_with(tmp_path):
    saved = tiny()
    saved.data.mean = (7.0, 8.0, 9.0)
    run_config.write_config(saved, tmp_path)
    config, source = start("hf://gone/away", tmp_path)
    assert source is None and config.data.mean == (7.0, 8.0, 9.0)


def test_weights_of_another_network_are_refused_with_the_flags_that_take_its_settings(
    run_of_chance, tmp_path
):
    error = refused(partial(start, run_of_chance, tmp_path, channels=16, multipliers=(1, 2, 4)))
    assert "model.channels=8 and not 16, model.multipliers=(1, 2) and not (1, 2, 4)" in str(error)
    assert str(error).endswith("--config.model.channels=8 --config.model.multipliers=1,2")


def test_weights_that_are_not_there_are_named(tmp_path):
    message = str(refused(partial(start, "nucleus", tmp_path)))
    assert message.startswith("config.train.start_from: model=nucleus: no such folder")


def test_what_changes_no_number_may_differ_from_the_weights(run_of_chance, tmp_path):
    start(run_of_chance, tmp_path, dropout=0.5, remat="all", dtype="bfloat16")
