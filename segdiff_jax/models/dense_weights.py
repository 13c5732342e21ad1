"""The parameters of a dense block, and its numbers."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.layers import ConvWeights, Dtype

SLOPE = 0.2  # of the leaky ReLU
leaky = partial(nn.leaky_relu, negative_slope=SLOPE)
RESIDUAL = 0.2  # scale of every inner residual

Weights = list[tuple[jax.Array, jax.Array]]  # kernel [3, 3, in, out] and bias [out] of each layer


class DenseWeights(nn.Module):
    """The parameters of five convolutions, each of all that came before it."""

    features: int
    growth: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self) -> Weights:
        """-> those of each layer, as `dtype`."""
        weights: Weights = []
        for i, width in enumerate([*[self.growth] * 4, self.features]):
            inputs = self.features + i * self.growth
            kernel, bias = ConvWeights(inputs, width, name=f"conv{i + 1}")()
            weights.append((kernel.astype(self.dtype), bias.astype(self.dtype)))
        return weights


def first_channels(weights: Weights) -> list[int]:
    """Returns the first channel of each map among all maps, and the end."""
    return [0, *(kernel.shape[2] for kernel, _ in weights)]
