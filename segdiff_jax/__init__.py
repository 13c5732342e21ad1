"""SegDiff (Amit et al., arXiv 2112.00390) in JAX: image segmentation by diffusion."""

__version__ = "0.1.0"
