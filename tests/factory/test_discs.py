"""The made-up discs: a network of three channels learns both classes in minutes on a CPU."""

import json

import pytest
from tiny_config import config_of

from segdiff_jax import train
from segdiff_jax.evaluate import evaluate
from segdiff_jax.factory import networks

DICE, AP50 = 0.93, 0.90  # at least


def test_the_network_has_a_channel_of_each_class():
    config = config_of("discs")
    assert networks.channels(config).classes == ("plain", "striped")
    assert networks.channels(config).count == 3


@pytest.mark.slow
def test_both_classes_and_their_objects_are_found_after_three_minutes(tmp_path):
    config = config_of("discs")
    config.data.prepared_dir = str(tmp_path / "data")
    train.train(config, tmp_path / "run")
    evaluate(config, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    mean = report["classes"]["mean"]
    assert mean["images"]["dice"] >= DICE and mean["together"]["dice"] >= DICE, mean
    assert report["objects"]["together"]["ap50"] >= AP50, report["objects"]
    assert mean["together"]["ap50"] >= AP50, mean
    assert (tmp_path / "run" / "report" / "report.html").read_text().count("striped") >= 1
