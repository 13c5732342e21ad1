"""Made-up discs whose annotators disagree by a known law, 64x64: the test of joint samples.

Only the differences from the defaults are set here. The report has, beside the usual scores, those
of the samples against the law (`data.datasets.ambiguous`) and against the eight annotators of each
picture, if there are several samples: with --config.sampling.budget=paper.

    python -m segdiff_jax.main --config=configs/ambiguous.py

hardware              time               test scores
2 CPU cores, shared   not measured yet
"""

from ml_collections import ConfigDict

from segdiff_jax.config import default


def get_config() -> ConfigDict:
    """Returns the settings."""
    c = default()
    c.data.name = "ambiguous"
    c.data.validation_split = "validation"
    c.data.mean = c.data.std = ()  # of the pictures to train on
    c.augment.horizontal_flip = True
    c.augment.vertical_flip = True
    c.model.channels = 16
    c.model.multipliers = (1, 2, 4)
    c.model.blocks_per_level = 1
    c.model.attention_factors = ()
    c.model.norm_groups = 4  # 16 channels: four a group, as in the authors' networks
    c.model.rrdb_blocks = 2
    c.model.rrdb_features = 16
    c.model.rrdb_growth = 8
    c.diffusion.prediction = "logit"
    c.diffusion.signal_scale = 0.3
    c.sampling.budget = "balanced"
    c.sampling.samples = 16
    c.sampling.sampler = "ddim"
    c.sampling.steps = 10
    c.sampling.generations = 16
    c.sampling.tile = 0
    c.train.steps = 800
    c.train.batch_size = 8
    c.train.noise_draws_per_image = 2
    c.train.draws = "T+uniform"
    c.train.learning_rate = 1e-3
    c.train.warmup_steps = 50
    c.train.decay = "cosine"
    c.train.ema_decay = 0.99
    c.train.ema_warmup = True
    c.train.log_every = 20
    c.train.checkpoint_every = 100
    return c
