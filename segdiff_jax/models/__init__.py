"""Defines the networks: the image encoder G, the mask encoder F, the U-Net E and D, SegDiff."""
