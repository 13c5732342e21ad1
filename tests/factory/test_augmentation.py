"""The augmentation and the examples of a config are those that it asks for."""

import jax
import numpy as np
import pytest
from tiny_config import config_of, tiny

from segdiff_jax.data import augment
from segdiff_jax.data.example import Example
from segdiff_jax.factory import datasets

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.float32)
MASK = (IMAGE[..., 0] > 99).astype(np.uint8)
EXPECTED = {  # of the authors, in their order: flips, rotation and scale, colours
    "monuseg": (
        augment.flip(True, True),
        augment.affine(22.0, (0.75, 1.25)),
        augment.color_jitter(0.4, 0.4, 0.4, 0.1),
    ),
    "cityscapes": (
        augment.flip(True, False),
        augment.affine(22.0, (0.75, 1.25)),
        augment.identity,
    ),
    "vaihingen": (
        augment.flip(True, True),
        augment.affine(360.0, (0.75, 1.5)),
        augment.color_jitter(0.6, 0.5, 0.4, 0.025),
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_images_are_augmented_as_the_authors_do(name):
    keys = jax.random.split(jax.random.key(4), 6)
    found, expected = (
        jax.jit(jax.vmap(each, (0, None, None)))(keys, IMAGE, MASK)
        for each in (datasets.augmentation(config_of(name)), augment.chain(*EXPECTED[name]))
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_subset_is_of_the_images_to_train_on_alone(monkeypatch):
    config = tiny()
    config.data.train_images = 2
    several = [Example(IMAGE.astype(np.uint8), MASK, str(i)) for i in range(5)]
    monkeypatch.setattr(datasets.Source, "load", lambda self, split: several)
    assert len(datasets.examples(config, "train")) == 2
    assert len(datasets.examples(config, "test")) == 5
