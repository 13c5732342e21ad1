"""Configures the authors' architecture at a size that can be timed on two CPU cores.

    python -m segdiff_jax.main --config=benchmarks/reduced.py --mode=train

C = 32, multipliers 1, 1, 2, 2, three blocks a level, four RRDB blocks, attention at maps of 16 and
8 pixels, images of 64x64; the widths of G and 32 groups per norm are the authors'. With 32 channels
such norms erase t: this config is for timing, not for training.
"""

from ml_collections import ConfigDict

from segdiff_jax.config import default


def get_config() -> ConfigDict:
    """Returns the reduced configuration."""
    c = default()
    c.data.name = "synthetic"  # 64x64
    c.augment.horizontal_flip = True
    c.augment.vertical_flip = True
    c.model.channels = 32
    c.model.multipliers = (1, 1, 2, 2)
    c.model.blocks_per_level = 3
    c.model.attention_factors = (4, 8)
    c.model.rrdb_blocks = 4
    c.sampling.steps = 20
    c.sampling.generations = 8
    c.sampling.tile = 0
    c.train.steps = 1
    c.train.batch_size = 4
    return c
