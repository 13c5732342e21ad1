"""Configures training on your own images and masks by their size and number.

    python -m segdiff_jax.main --config=configs/folder.py:DIR
    python -m segdiff_jax.main --config=configs/folder.py:DIR,small

`DIR,small` selects a network that a laptop can train; without it, one for a GPU. DIR holds images/
and masks/, or train/ and test/ with these in them, or the files of another layout that
docs/own_images.md lists. Only names and headers are read.

                  for a GPU                            small
augment.crop      the largest multiple of 64 that      of 16, at most 64
                  the median image holds, at most 256
sampling.tile     the crop                             twice the crop
sampling.stride   3/4 of the tile: tiles overlap        the same
train.steps       500 an image to train on, 20 000     5 an image, 1000 to 2000
                  to 200 000

Without a folder for tests, 20 % of the images are held out. For a GPU, without one for validation,
another 10 % are, and the weights with the best score on them are the result; the result of the
small network is its last weights. Mean and standard deviation of the colours are computed from the
training images. Where images have masks of several annotators (masks_1, masks_2), samples are
learnt from the first update on: train.share_at_T is 0. Override fields as needed, such as
--config.augment.rotate=0 for objects that have an upright orientation.
"""

import statistics
from pathlib import Path

from ml_collections import ConfigDict

from segdiff_jax.config import default
from segdiff_jax.data.datasets import folder_layout
from segdiff_jax.data.image_io import reading
from segdiff_jax.errors import UserError


def get_config(argument: str = "") -> ConfigDict:
    """Returns settings for the images in a directory.

    Args:
      argument: "DIR" or "DIR,small".

    Raises:
      UserError: there is no such directory, or no images in it.
    """
    place = argument.removesuffix(",small")
    if not place:
        raise UserError(
            "configs/folder.py needs the directory of your images: --config=configs/folder.py:DIR, "
            "or configs/folder.py:DIR,small for a small network"
        )
    directory = Path(place).expanduser()
    if not directory.is_dir():
        raise UserError(f"configs/folder.py:{argument}: {place!r} must be a directory that exists")
    layout = folder_layout.find(directory)
    images = {split: found.images for split, found in layout.items()}
    to_train = images.get("train", images.get("", []))
    c = default()
    c.data.name = "folder"
    c.data.dir = str(directory.absolute())
    c.data.mean = c.data.std = ()  # of the images to train on
    _splits(c, images, len(to_train))
    c.augment.horizontal_flip = True
    c.augment.vertical_flip = True
    c.augment.rotate = 22.0
    c.augment.scale = (0.75, 1.25)
    c.augment.jitter = (0.4, 0.4, 0.4, 0.1)
    side = _median_side(to_train)
    if place != argument:
        _small(c, side, len(to_train))
    else:
        _large(c, side, len(to_train))
    if any(len(pair.masks) > 1 for found in layout.values() for pair in found.pairs):
        c.train.share_at_T = 0.0  # what annotators do alike is learnt late: docs/answers.md
    return c


def _splits(c: ConfigDict, images: dict[str, list[Path]], count: int) -> None:
    drawn = count >= 3  # of fewer images, none is held out
    c.data.validation_split = "validation" if drawn or "validation" in images else ""
    c.data.test_split = "test" if drawn or "test" in images else ""


def _median_side(images: list[Path]) -> int:
    """Returns the median of the shorter sides, pixels; damaged files are reported later."""
    sides = []
    for image in images:
        try:
            sides.append(min(reading.read_size(image)))
        except UserError:
            continue
    return int(statistics.median(sides)) if sides else 0


def _fitting(side: int, unit: int, most: int) -> int:
    """Returns the largest multiple of the unit up to both numbers, or the unit itself."""
    return max(min(side, most) // unit, 1) * unit


def _large(c: ConfigDict, side: int, count: int) -> None:
    c.augment.crop = _fitting(side, 64, 256)
    c.model.channels = 64
    c.model.multipliers = (1, 1, 2, 2, 4)
    c.model.blocks_per_level = 2
    c.model.attention_factors = (16,)
    c.model.norm_groups = 16  # 64 channels: four a group, as in the authors' networks
    c.model.rrdb_blocks = 6
    c.diffusion.prediction = "logit"  # by cross-entropy; see docs/answers.md
    c.diffusion.signal_scale = 0.3
    c.diffusion.zero_x_T = True
    c.sampling.budget = "balanced"
    c.sampling.sampler = "ddim"
    c.sampling.steps = 25
    c.sampling.tile = c.augment.crop
    c.sampling.stride = c.sampling.tile * 3 // 4
    c.train.draws = "T+uniform"
    c.train.noise_draws_per_image = 2
    c.train.steps = min(max(500 * count, 20_000), 200_000)
    c.train.warmup_steps = 500
    c.train.ema_decay = 0.999  # the authors' 0.9999 needs more training steps than these
    c.train.ema_warmup = True
    if c.data.validation_split:
        c.train.evaluate_every = c.train.steps // 10
        c.train.result = "best"


def _small(c: ConfigDict, side: int, count: int) -> None:
    c.data.validation_split = ""
    c.folder.validation_share = 0.0
    c.augment.crop = _fitting(side, 16, 64)
    c.model.channels = 32
    c.model.multipliers = (1, 2, 4)
    c.model.blocks_per_level = 1
    c.model.attention_factors = ()
    c.model.norm_groups = 8  # 32 channels: four a group, as in the authors' networks
    c.model.rrdb_blocks = 2
    c.model.rrdb_features = 32
    c.model.rrdb_growth = 16
    c.diffusion.prediction = "logit"  # by cross-entropy; see docs/answers.md
    c.diffusion.signal_scale = 0.3
    c.diffusion.zero_x_T = True
    c.sampling.budget = "balanced"
    c.sampling.sampler = "ddim"
    c.sampling.steps = 10
    c.sampling.generations = 4
    c.sampling.tile = 2 * c.augment.crop  # the network is convolutional
    c.sampling.stride = c.sampling.tile * 3 // 4
    c.train.steps = min(max(5 * count, 1000), 2000)
    c.train.draws = "T+uniform"
    c.train.share_at_T = 0.6
    c.train.noise_draws_per_image = 2
    c.train.learning_rate = 5e-4
    c.train.warmup_steps = 50
    c.train.ema_decay = 0.995
    c.train.ema_warmup = True
    c.train.log_every = 20
    c.train.checkpoint_every = 100
