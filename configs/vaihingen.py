"""Vaihingen, the building in the middle of an aerial image: 100 to train on, 68 to test; 256x256.

The authors' settings are the defaults plus what is set here. `:small` is a network that a laptop
can train: `_small` sets what differs from the authors' settings.

    python -m segdiff_jax.main --config=configs/vaihingen.py --config.data.dir=DIR
    python -m segdiff_jax.main --config=configs/vaihingen.py:small --config.data.dir=DIR

DIR holds building_001.tif, building_mask_001.tif and so on to 168. With
--config.vaihingen.resize=area they are reduced to 256x256 by averaging, not as the authors do.

              hardware    time              dice     iou      area_ratio   boundary_f
the paper                                   0.9514   0.9112   0.9383       0.8509
authors'      -           not measured yet
:small        -           not measured yet

The paper's figures (Table 2) are the best on the test images during training. All four are means
over the images. Its F1 is `dice`, its mIoU the `iou` of the building, its FBound `boundary_f`, of
each image and over 1 to 5 pixels; DARNet, in the same table, adds up the pixels of all images
first. Its WCov is a ratio of areas, `area_ratio`, wherever the pixels lie; compare the WCov of DSAC
and DARNet with `weighted_coverage`.
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
        raise UserError(f"configs/vaihingen.py:{argument}: the argument must be small, or left out")
    c = default()
    c.data.name = "vaihingen"
    c.data.train_split = "train+validation"  # the authors hold no image back
    c.data.mean = (255 * 0.47341759, 255 * 0.28791303, 255 * 0.2850705)
    c.data.std = (255 * 0.22645572, 255 * 0.15276193, 255 * 0.140702)
    c.augment.horizontal_flip = True
    c.augment.vertical_flip = True
    c.augment.rotate = 360.0  # uniform over all angles; the authors draw from 0 to 360
    c.augment.scale = (0.75, 1.5)
    c.augment.jitter = (0.6, 0.5, 0.4, 0.025)
    c.model.dropout = 0.1
    c.model.rrdb_blocks = 6
    if argument == "small":
        _small(c)
    return c


def _small(c: ConfigDict) -> None:
    # No crop: only the whole image shows which building is in the middle.
    c.data.train_split = "train"
    c.data.validation_split = "validation"
    c.model.channels = 16
    c.model.multipliers = (1, 1, 2, 4, 4)
    c.model.blocks_per_level = 1
    c.model.attention_factors = (16,)
    c.model.norm_groups = 4  # 16 channels: four a group, as in the authors' networks
    c.model.dropout = 0.0
    c.model.rrdb_blocks = 1
    c.model.rrdb_features = 16
    c.model.rrdb_growth = 8
    c.diffusion.prediction = "logit"  # by cross-entropy; see docs/answers.md
    c.diffusion.signal_scale = 0.3
    c.diffusion.zero_x_T = True
    c.sampling.budget = "balanced"
    c.sampling.sampler = "ddim"
    c.sampling.steps = 10
    c.sampling.generations = 4
    c.train.steps = 1000
    c.train.batch_size = 4
    c.train.draws = "T+uniform"
    c.train.share_at_T = 0.6
    c.train.noise_draws_per_image = 2
    c.train.learning_rate = 1e-3
    c.train.warmup_steps = 50
    c.train.ema_decay = 0.995
    c.train.ema_warmup = True
    c.train.log_every = 20
    c.train.checkpoint_every = 100
    c.train.evaluate_every = 500
