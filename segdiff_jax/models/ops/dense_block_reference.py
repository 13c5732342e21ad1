"""Defines the residual dense block of G (ESRGAN's, arXiv 1809.00219): five 3 x 3 convolutions.

Each convolution reads the block's input and the maps of all layers before it. The first four are
followed by a leaky ReLU; 0.2 times the fifth is added to the block's input.
"""

from functools import partial

import jax
import jax.numpy as jnp

from segdiff_jax.models.ops.conv import conv2d

Weights = list[tuple[jax.Array, jax.Array]]  # kernel [3, 3, in, out] and bias [out] of each layer

SLOPE = 0.2  # of the leaky ReLU
RESIDUAL = 0.2  # scale of every inner residual

leaky_relu = partial(jax.nn.leaky_relu, negative_slope=SLOPE)


def dense_block_reference(weights: Weights, x: jax.Array) -> jax.Array:
    """Computes the block by its definition: [B, H, W, C] -> [B, H, W, C]."""
    return RESIDUAL * last_layer_reference(weights, x) + x


def last_layer_reference(weights: Weights, x: jax.Array) -> jax.Array:
    """Computes the last layer by concatenation: [B, H, W, C] -> [B, H, W, C]."""
    *inner, (kernel, bias) = weights
    maps = x
    for k, b in inner:
        maps = jnp.concatenate([maps, leaky_relu(conv2d(maps, k) + b)], axis=-1)
    return conv2d(maps, kernel) + bias


def first_channels(weights: Weights) -> list[int]:
    """Returns the first channel of each map in the concatenation of all maps, and the end."""
    return [0, *(kernel.shape[2] for kernel, _ in weights)]
