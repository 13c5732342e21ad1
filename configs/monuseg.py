"""MoNuSeg, nuclei in stained tissue: 30 images to train on, 14 to test; resized to 512x512.

The authors' settings are the defaults plus what is set here. `:small` is a network that a laptop
can train: `_small` sets what differs from the authors' settings.

    python -m segdiff_jax.main --config=configs/monuseg.py --config.data.dir=DIR
    python -m segdiff_jax.main --config=configs/monuseg.py:small --config.data.dir=DIR

DIR holds the official "MoNuSeg 2018 Training Data" and "MoNuSegTestData".

              hardware            time              test Dice, IoU
authors'      -                   not measured yet  the paper: 0.8159, 0.6900, chosen on test
:small        2 CPU cores, shared 47 min            0.7609, 0.6149 after 790 updates, on 7 of the
                                                    14 test images; 17 of the 30 training
                                                    annotations were rebuilt from public masks

In bfloat16 an update of the authors' batch of 8 took 146 ms on one H200, an earlier version
of it 37 GB; in float32 it should fit 80 GB (docs/performance.md).
"""

from ml_collections import ConfigDict

from segdiff_jax.config import default
from segdiff_jax.errors import UserError


def get_config(argument: str = "") -> ConfigDict:
    """Returns the authors' settings, or those of a small network.

    Raises:
      UserError: the argument is neither "" nor "small".
    """
    if argument not in ("", "small"):
        raise UserError(f"configs/monuseg.py:{argument}: the argument must be small, or left out")
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
    if argument == "small":
        _small(c)
    return c


def _small(c: ConfigDict) -> None:
    c.data.train_split = "train"
    c.data.validation_split = "validation"
    c.augment.crop = 64
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
    c.sampling.tile = 128  # the network is convolutional, so tiles may be larger than the crop
    c.sampling.stride = 128
    c.train.steps = 1000
    c.train.batch_size = 8
    c.train.draws = "T+uniform"
    c.train.share_at_T = 0.6
    c.train.noise_draws_per_image = 2
    c.train.learning_rate = 5e-4
    c.train.warmup_steps = 50
    c.train.ema_decay = 0.995
    c.train.ema_warmup = True
    c.train.log_every = 20
    c.train.checkpoint_every = 100
    c.train.evaluate_every = 500
