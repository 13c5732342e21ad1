"""Builds data sets, examples, crops and augmentation from a config."""

from absl import logging
from ml_collections import ConfigDict

from segdiff_jax.data import augment, object_crops, subset
from segdiff_jax.data.crops import CropFn, random_crop
from segdiff_jax.data.datasets.registry import Source, statistics
from segdiff_jax.data.example import Example
from segdiff_jax.data.image_io.headers import Limits


def source(config: ConfigDict) -> Source:
    """Returns the data set."""
    name = config.data.name
    group = config.get(name)
    options = dict(group.items()) if group is not None else {}
    options["limits"] = limits(config)
    return Source(name, config.data.dir, config.data.prepared_dir, options)


def examples(config: ConfigDict, split: str) -> list[Example]:
    """Returns the examples of a split, as prepared; of train_split only those to train on."""
    loaded = source(config).load(split)
    if split != config.data.train_split:
        return loaded
    return subset.nested_subset(loaded, config.data.train_images, config.seed)


def limits(config: ConfigDict) -> Limits:
    """Returns the limits that image files must keep."""
    return Limits(**config.reading)


def with_statistics(config: ConfigDict) -> ConfigDict:
    """Returns the config with data.mean and data.std, computed from train_split if they are ()."""
    if config.data.mean:
        return config
    mean, std = statistics(examples(config, config.data.train_split))
    logging.info("data.mean=%s, data.std=%s, computed from %r", mean, std, config.data.train_split)
    config = config.copy_and_resolve_references()
    config.data.mean, config.data.std = mean, std
    return config


def crop_fn(config: ConfigDict) -> CropFn:
    """Returns the crop that training takes of an example."""
    c = config.cityscapes
    if config.data.name == "cityscapes":
        low, high = c.train_expansion
        return object_crops.train_crop(c.size, low, high, c.redraw, config.seed)
    return random_crop(config.augment.crop)


def scored_examples(config: ConfigDict, split: str) -> list[Example]:
    """Returns the examples of a split, cropped as they are predicted and scored."""
    found = examples(config, split)
    c = config.cityscapes
    if config.data.name == "cityscapes":
        return [object_crops.eval_crop(example, c.test_expansion, c.size) for example in found]
    return found


def augmentation(config: ConfigDict) -> augment.Augment:
    """Returns the augmentation of a training example after its crop, in the authors' order."""
    c = config.augment
    return augment.chain(
        augment.flip(c.horizontal_flip, c.vertical_flip),
        augment.affine(c.rotate, tuple(c.scale)),
        augment.color_jitter(*c.jitter),
    )
