"""Returns the size of a network's training images. Needs no JAX."""

from ml_collections import ConfigDict


def side_of(config: ConfigDict) -> int:
    """Returns the side of the square training images of a config, pixels."""
    whole = {"synthetic": 64, "ambiguous": 64, "vaihingen": 256}
    whole["cityscapes"] = config.cityscapes.size
    return config.augment.crop or whole[config.data.name]
