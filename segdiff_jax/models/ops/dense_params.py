"""Describes the weights of a residual dense block."""

from functools import partial

import flax.linen as nn
import jax

SLOPE = 0.2  # of the leaky ReLU


leaky = partial(nn.leaky_relu, negative_slope=SLOPE)


RESIDUAL = 0.2  # scale of every inner residual


Weights = list[tuple[jax.Array, jax.Array]]  # kernel [3, 3, in, out] and bias [out] of each layer


def first_channels(weights: Weights) -> list[int]:
    """Returns the first channel of each map among all maps, and the end."""
    return [0, *(kernel.shape[2] for kernel, _ in weights)]
