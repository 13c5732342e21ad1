"""Cityscapes, one object at a time: crops of 2,975 street scenes to train on, of 500 to test.

The argument is a class and a protocol, separated by a comma. A class is person, rider, car, truck,
bus, train, motorcycle or bicycle; or all, which trains one network for the eight; or classes, which
trains one that also learns which of the eight an object is (docs/classes.md). The protocol is
expansion (the default: windows 15 % larger than the object's box) or tight (its box).

    python -m segdiff_jax.main --config=configs/cityscapes.py:bus --config.data.dir=DIR
    python -m segdiff_jax.main --config=configs/cityscapes.py:bus,tight --config.data.dir=DIR

DIR holds the official "leftImg8bit" and "gtFine"; docs/cityscapes.md explains how to get them, and
how the objects differ from the authors', whose lists are no longer available.

The authors' settings are the defaults plus what is set here, with one difference: expansions of
10-20 % are sampled at every visit. `:bus,expansion,once` samples them once per object, as the
authors do.

mIoU of the paper (mean over objects), of one network a class, chosen on the test objects:

              bicycle bus    person train  truck  motorc. car    rider  mean
    expansion 0.6980  0.8597 0.7609 0.7595 0.8068 0.6706  0.8340 0.7257 0.7644
    tight     0.6962  0.8464 0.7518 0.7489 0.8034 0.6775  0.8363 0.7349 0.7619

Ours are not measured yet.
"""

from ml_collections import ConfigDict

from segdiff_jax.config import default
from segdiff_jax.errors import UserError

CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
PROTOCOLS = ("expansion", "expansion,once", "tight")


def get_config(argument: str = "bus,expansion") -> ConfigDict:
    """Returns the authors' settings for a class and a protocol.

    Args:
      argument: "<class>", "<class>,expansion", "<class>,expansion,once" or "<class>,tight".

    Raises:
      UserError: another argument.
    """
    name, _, protocol = argument.partition(",")
    protocol = protocol or "expansion"
    if name not in (*CLASSES, "all", "classes") or protocol not in PROTOCOLS:
        raise UserError(
            f"configs/cityscapes.py:{argument}: must be one of {', '.join(CLASSES)}, all, classes; "
            f"then nothing, or one of {', '.join(f',{p}' for p in PROTOCOLS)}"
        )
    c = default()
    c.data.name = "cityscapes"
    c.data.mean = (123.675, 116.28, 103.53)
    c.data.std = (58.395, 57.12, 57.375)
    c.cityscapes.classes = CLASSES if name in ("all", "classes") else (name,)
    c.cityscapes.exclusive = name == "classes"
    c.cityscapes.redraw = protocol == "expansion"
    if protocol == "tight":
        c.cityscapes.train_expansion, c.cityscapes.test_expansion = (0, 0), 0
    c.augment.horizontal_flip = True
    c.augment.rotate = 22.0
    c.augment.scale = (0.75, 1.25)
    c.model.multipliers = (1, 1, 2, 2, 4, 4)
    c.model.attention_factors = (8, 16)
    c.model.rrdb_blocks = 15
    c.sampling.tile = 128
    c.sampling.stride = 128
    c.train.batch_size = 30
    return c
