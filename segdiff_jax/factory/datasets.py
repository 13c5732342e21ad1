"""Builds data sets, examples, crops and augmentation from a config."""

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from segdiff_jax.data import augment, subset
from segdiff_jax.data.classes import CITYSCAPES
from segdiff_jax.data.crops import CropFn
from segdiff_jax.data.datasets.registry import Source, statistics
from segdiff_jax.data.digests import digests
from segdiff_jax.data.example import Example
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.factory import networks


def source(config: ConfigDict) -> Source:
    """Returns the data set."""
    c = config.data
    options = {**config.get(c.name, {}), "limits": limits(config)}
    options |= {"channels": networks.image_channels(config)} if c.channels else {}
    return Source(c.name, c.dir, c.prepared_dir, options)


def examples(config: ConfigDict, split: str) -> list[Example]:
    """Returns the examples of a split, as prepared; of train_split only those to train on."""
    loaded, c = source(config).load(split), config.data
    training = split == c.train_split
    if config.cityscapes.exclusive:
        loaded = [with_class(example) for example in loaded]
    return subset.nested_subset(loaded, c.train_images, config.seed) if training else loaded


def with_class(example: Example) -> Example:
    """Returns an example of one object of Cityscapes with the class map of its mask."""
    number = CITYSCAPES.index(example.group) + 1
    return example._replace(classes=example.mask * np.uint8(number))


def training_examples(config: ConfigDict) -> list[Example]:
    """Returns the examples to train on; their masks hold all channels that the network learns."""
    found, channels = examples(config, config.data.train_split), networks.channels(config)
    if (known := sum(one.objects is not None for one in found)) and not channels.interior:
        hint = "--config.model.objects=interior learns to tell apart those that touch"
        logging.info("%d of %d images have labels of objects: %s", known, len(found), hint)
    if any(one.annotations is not None for one in found) and config.train.share_at_T:
        hint = "--config.train.share_at_T=0 learns better what an annotator does in all of them"
        logging.info("images have masks of several annotators: %s", hint)
    return channels.packed(found)


def limits(config: ConfigDict) -> Limits:
    """Returns the limits of reading image files."""
    return Limits(**config.reading)


def with_statistics(config: ConfigDict, examples: list[Example]) -> ConfigDict:
    """Returns the config with data.mean and data.std: of the examples to train on, if ()."""
    if config.data.mean:
        return config
    mean, std = statistics(examples)
    logging.info("data.mean=%s, data.std=%s, computed from %r", mean, std, config.data.train_split)
    config = config.copy_and_resolve_references()
    config.data.mean, config.data.std = mean, std
    return config


def digests_to_validate(config: ConfigDict) -> dict[str, str] | None:
    """Returns the checksums of the examples that choose the checkpoint; None: none do."""
    if not config.train.evaluate_every:
        return None
    return digests(examples(config, config.data.validation_split))


def crop_fn(config: ConfigDict) -> CropFn:
    """Returns the crop that training sees of an example."""
    return source(config).train_crop(config.augment.crop, config.seed)


def scored_examples(config: ConfigDict, split: str) -> list[Example]:
    """Returns the examples of a split as they are predicted and scored."""
    return [source(config).eval_crop(example) for example in examples(config, split)]


def augmentation(config: ConfigDict) -> augment.Augment:
    """Returns the augmentation of a training example after its crop, in the authors' order."""
    c = config.augment
    intensity = augment.intensity_jitter(*c.jitter[:2])
    return augment.chain(
        augment.flip(c.horizontal_flip, c.vertical_flip),
        augment.affine(c.rotate, tuple(c.scale)),
        intensity if config.data.channels else augment.color_jitter(*c.jitter),
        augment.invert(c.invert),
    )
