"""What the network of a config is trained on; needs no JAX."""

from ml_collections import ConfigDict


def side_of(config: ConfigDict) -> int:
    """Returns the side of the square that the network is trained on, pixels."""
    whole = {"synthetic": 64, "vaihingen": 256, "cityscapes": config.cityscapes.size}
    return config.augment.crop or whole[config.data.name]
