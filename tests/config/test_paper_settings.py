"""Every setting of the paper's configs, with the source of its value; see `paper_settings`."""

import ast

import pytest
from paper_settings import ASIDE, DEFAULTS, file_of, settings

from segdiff_jax.config import default, flatten

CITYSCAPES = {
    "augment.horizontal_flip": (True, "code"),
    "augment.rotate": (22.0, "code"),
    "augment.scale": ((0.75, 1.25), "code"),
    "data.mean": ((123.675, 116.28, 103.53), "code"),
    "data.std": ((58.395, 57.12, 57.375), "code"),
    "model.multipliers": ((1, 1, 2, 2, 4, 4), "paper, code: 128 pixels"),
    "model.attention_factors": ((8, 16), "paper: maps of 16 and 8 of 128 pixels"),
    "model.rrdb_blocks": (15, "paper, README"),
    "sampling.tile": (128, "paper: crops of 128"),
    "sampling.stride": (128, "paper: crops of 128"),
    "train.batch_size": (30, "paper, README: 15 on each of two"),
}
ALL = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
TIGHT = {
    "cityscapes.redraw": (False, "nothing to draw"),
    "cityscapes.train_expansion": ((0, 0), "paper: the box itself"),
    "cityscapes.test_expansion": (0, "paper: the box itself"),
}
CONFIGS = {  # what differs from DEFAULTS
    "monuseg": {
        "data.train_split": ("train+validation", "code: all 30 train"),
        "data.mean": ((142.07, 98.48, 132.96), "code"),
        "data.std": ((65.78, 57.05, 57.78), "code"),
        "augment.crop": (256, "paper, code"),
        "augment.horizontal_flip": (True, "code"),
        "augment.vertical_flip": (True, "code"),
        "augment.rotate": (22.0, "code"),
        "augment.scale": ((0.75, 1.25), "code"),
        "augment.jitter": ((0.4, 0.4, 0.4, 0.1), "code"),
    },
    "vaihingen": {
        "data.train_split": ("train+validation", "code: all 100 train"),
        "data.mean": ((120.72148545, 73.41782265, 72.6929775), "code: 255 x its shares"),
        "data.std": ((57.7462086, 38.95429215, 35.87901), "code: 255 x its shares"),
        "augment.horizontal_flip": (True, "paper, code"),
        "augment.vertical_flip": (True, "paper, code"),
        "augment.rotate": (360.0, "paper, code: any angle"),
        "augment.scale": ((0.75, 1.5), "paper, code"),
        "augment.jitter": ((0.6, 0.5, 0.4, 0.025), "paper, code"),
        "model.dropout": (0.1, "README"),
        "model.rrdb_blocks": (6, "paper, README"),
    },
    "cityscapes:bus": CITYSCAPES,
    "cityscapes:car": CITYSCAPES | {"cityscapes.classes": (("car",), "the argument")},
    "cityscapes:bus,expansion,once": CITYSCAPES | {"cityscapes.redraw": (False, "code")},
    "cityscapes:all": CITYSCAPES | {"cityscapes.classes": (ALL, "paper: eight classes")},
    "cityscapes:bus,tight": CITYSCAPES | TIGHT,
    "cityscapes:classes": CITYSCAPES
    | {"cityscapes.classes": (ALL, "paper: eight classes"), "cityscapes.exclusive": (True, "ours")},
}


def test_every_default_is_the_authors_or_said_to_be_ours():
    here = {key: value for key, value in flatten(default()).items() if not key.startswith(ASIDE)}
    assert here == {key: value for key, (value, _) in DEFAULTS.items()}


@pytest.mark.parametrize("source", CONFIGS)
def test_every_setting_of_a_config_of_the_paper_is_its_source_s(source):
    expected = DEFAULTS | CONFIGS[source]
    found = settings(source)
    assert found.keys() == expected.keys()
    for key, (value, _) in expected.items():
        close = value
        if key in ("data.mean", "data.std"):  # products with 255
            close = pytest.approx(value, rel=1e-12)
        assert found[key] == close, key


@pytest.mark.parametrize("source", CONFIGS)
def test_no_setting_is_listed_that_is_the_default(source):
    same = [k for k, (value, _) in CONFIGS[source].items() if value == DEFAULTS[k][0]]
    assert same == []


def test_every_assignment_of_a_config_of_the_paper_is_listed():
    for source in CONFIGS:
        tree = ast.parse(file_of(source).read_text())
        body = next(n for n in tree.body if getattr(n, "name", "") == "get_config")
        targets = [
            target
            for node in ast.walk(body)
            if isinstance(node, ast.Assign)
            for group in node.targets
            for target in (group.elts if isinstance(group, ast.Tuple) else [group])
        ]
        keys = {ast.unparse(t).removeprefix("c.") for t in targets if isinstance(t, ast.Attribute)}
        missing = {key for key in keys if not key.startswith(ASIDE)} - DEFAULTS.keys()
        assert keys and not missing
