"""MoNuSeg, nuclei in stained tissue: 30 images to train on, 14 to test; resized to 512x512.

The authors' settings are the defaults plus what is set here. `:small` is a network that a laptop
can train, `:gpu` one that a single H100 or H200 should train in 5 to 10 minutes: `_small` and
`_gpu` set what differs from the authors' settings.

    python -m segdiff_jax.main --config=configs/monuseg.py --config.data.dir=DIR
    python -m segdiff_jax.main --config=configs/monuseg.py:small --config.data.dir=DIR

DIR holds the official "MoNuSeg 2018 Training Data" and "MoNuSegTestData".

              hardware            time              test Dice, IoU
authors'      -                   not measured yet  the paper: 0.8159, 0.6900, chosen on test
:small        2 CPU cores, shared 47 min            0.7609, 0.6149 after 790 updates, on 7 of the
                                                    14 test images; 17 of the 30 training
                                                    annotations were rebuilt from public masks
:gpu          one H100 or H200    not measured yet  `python -m benchmarks.gpu` does

In bfloat16 an update of the authors' batch of 8 took 146 ms on one H200, an earlier version
of it 37 GB; in float32 it should fit 80 GB (docs/performance.md).
"""

from ml_collections import ConfigDict

from segdiff_jax.config import default
from segdiff_jax.errors import UserError


def get_config(argument: str = "") -> ConfigDict:
    """Returns the authors' settings, or those of a smaller network.

    Raises:
      UserError: the argument is none of "", "small" and "gpu".
    """
    if argument not in ("", "small", "gpu"):
        allowed = "the argument must be small or gpu, or left out"
        raise UserError(f"configs/monuseg.py:{argument}: {allowed}")
    c = default()
    c.data.name = "monuseg"
    c.data.train_split = "train+validation"  # the authors hold no image back
    c.data.mean = (142.07, 98.48, 132.96)
    c.data.std = (65.78, 57.05, 57.78)
    c.augment.crop = 256
    c.augment.horizontal_flip = True
    c.augment.vertical_flip = True
    c.augment.rotate = 22.0
    c.augment.scale = (0.75, 1.25)
    c.augment.jitter = (0.4, 0.4, 0.4, 0.1)
    if argument:
        _short(c)
        {"small": _small, "gpu": _gpu}[argument](c)
    return c


def _short(c: ConfigDict) -> None:
    """Sets what trainings of minutes share."""
    c.model.attention_factors = ()  # convolutional: tiles may be larger than the crop
    c.diffusion.prediction = "logit"  # by cross-entropy; see docs/answers.md
    c.diffusion.signal_scale = 0.3
    c.diffusion.zero_x_T = True
    c.sampling.budget = "balanced"
    c.sampling.sampler = "ddim"
    c.sampling.steps = 10
    c.sampling.generations = 4
    c.train.batch_size = 8
    c.train.draws = "T+uniform"
    c.train.share_at_T = 0.6
    c.train.noise_draws_per_image = 2
    c.train.ema_warmup = True
    c.train.log_every = 20


def _small(c: ConfigDict) -> None:
    c.data.train_split = "train"
    c.data.validation_split = "validation"
    c.augment.crop = 64
    c.model.channels = 32
    c.model.multipliers = (1, 2, 4)
    c.model.blocks_per_level = 1
    c.model.norm_groups = 8  # 32 channels: four a group, as in the authors' networks
    c.model.rrdb_blocks = 2
    c.model.rrdb_features = 32
    c.model.rrdb_growth = 16
    c.sampling.tile = 128
    c.sampling.stride = 128
    c.train.steps = 1000
    c.train.learning_rate = 5e-4
    c.train.warmup_steps = 50
    c.train.ema_decay = 0.995
    c.train.checkpoint_every = 100
    c.train.evaluate_every = 500


def _gpu(c: ConfigDict) -> None:
    """Sets about a third of the authors' arithmetic, twice their batch and all 30 images."""
    c.augment.rotate = 90.0
    c.model.channels = 64
    c.model.multipliers = (1, 1, 2, 2, 4)
    c.model.blocks_per_level = 2
    c.model.norm_groups = 16  # four channels a group
    c.model.rrdb_blocks = 4
    c.model.dtype = "bfloat16"
    c.sampling.tile = 512
    c.sampling.stride = 512
    c.train.steps = 3000
    c.train.batch_size = 16
    c.train.learning_rate = 5e-4
    c.train.warmup_steps = 100
    c.train.decay = "cosine"
    c.train.ema_decay = 0.998
    c.train.checkpoint_every = 500
