"""The dense block of G: five convolutions, each of all maps before it, written in three ways.

All three have the same parameters and the same result but for rounding. Which is fastest depends on
the device (docs/performance.md has the figures):

  concat  all maps so far are joined and convolved for every layer: 5 convolutions of 32 and 64
          output channels, and every layer copies all maps before it
  spread  each map is convolved once, into all later inner layers, and all maps are joined only for
          the last: 128, 96, 64, 32 and 64 output channels, which suits matrix units better than 32
          each. The fastest on GPUs
  parts   the same, with a gradient that computes the kernels of all layers as one. The fastest on
          CPUs, where the gradient of a kernel of few outputs is slow
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.models.convolution import convolve, input_gradient, suits_winograd, winograd
from segdiff_jax.models.layers import ConvWeights, Dtype

SLOPE = 0.2  # of the leaky ReLU
leaky = partial(nn.leaky_relu, negative_slope=SLOPE)
RESIDUAL = 0.2  # scale of every inner residual

Weights = list[tuple[jax.Array, jax.Array]]  # kernel [3, 3, in, out] and bias [out] of each layer


class DenseBlock(nn.Module):
    """Five convolutions, each of all that came before it; 0.2 times the last is added to x."""

    growth: int
    dtype: Dtype = jnp.float32
    form: str = "concat"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        C, growth = x.shape[-1], self.growth
        widths = [*[growth] * 4, C]
        weights: Weights = []
        for i, width in enumerate(widths):
            kernel, bias = ConvWeights(C + i * growth, width, name=f"conv{i + 1}")()
            weights.append((kernel.astype(self.dtype), bias.astype(self.dtype)))
        x = x.astype(self.dtype)
        return RESIDUAL * FORMS[self.form](weights, x) + x


def concat(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns the last layer, [B, H, W, C]."""
    *inner, (kernel, bias) = weights
    maps = x
    for k, b in inner:
        maps = jnp.concatenate([maps, leaky(convolve(maps, k) + b)], axis=-1)
    return convolve(maps, kernel) + bias


def parts(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns the last layer, [B, H, W, C]."""
    every = sum(bias.shape[0] for _, bias in weights)
    return _parts(weights, x) if suits_winograd(x, every) else spread(weights, x)


@jax.custom_vjp
def _parts(weights: Weights, x: jax.Array) -> jax.Array:
    return _parts_forward(weights, x)[0]


def _parts_forward(weights: Weights, x: jax.Array) -> tuple[jax.Array, tuple]:
    joined = jnp.concatenate(_grown(weights[:-1], x), axis=-1)
    return _last(weights, joined), (weights, joined)


def _parts_backward(kept: tuple, dy: jax.Array) -> tuple[Weights, jax.Array]:
    """Gradients in the weights and in x.

    A kernel of few outputs makes a slow gradient, so those of all layers are computed together, as
    one kernel's from all maps to all layers; what no layer reads is thrown away, and is less than
    what would be lost.
    """
    weights, joined = kept
    growth = weights[0][1].shape[0]
    first = [0, *(kernel.shape[2] for kernel, _ in weights)]  # of each map's channels; the end
    dz = dy  # of what layers j, j + 1, .. give before their activation, side by side
    for j in range(len(weights) - 1, -1, -1):
        part = slice(first[j], first[j + 1])
        later = jnp.concatenate([kernel[:, :, part] for kernel, _ in weights[j:]], axis=-1)
        dmap = input_gradient(later, dz)
        if j:
            rising = joined[..., part] >= 0
            dz = jnp.concatenate([jnp.where(rising, dmap, SLOPE * dmap), dz], axis=-1)
    every = winograd(joined, dz)
    bias = dz.sum((0, 1, 2))
    outputs = [slice(i * growth, i * growth + b.shape[0]) for i, (_, b) in enumerate(weights)]
    found = [(every[:, :, :n, out], bias[out]) for n, out in zip(first[1:], outputs, strict=True)]
    return found, dmap


_parts.defvjp(_parts_forward, _parts_backward)


def spread(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns the last layer, [B, H, W, C]."""
    return _last(weights, jnp.concatenate(_grown(weights[:-1], x), axis=-1))


def _last(weights: Weights, joined: jax.Array) -> jax.Array:
    kernel, bias = weights[-1]
    return convolve(joined, kernel) + bias


def _grown(inner: Weights, x: jax.Array) -> list[jax.Array]:
    """Returns x and the maps of the inner layers, each map convolved once into all that follow."""
    # what each layer has been given; added up once all is there, so that it is read only once
    given = [[bias] for _, bias in inner]
    maps, first = [x], 0
    for i in range(len(inner)):
        last = first + maps[-1].shape[-1]
        kernel = jnp.concatenate([k[:, :, first:last] for k, _ in inner[i:]], axis=-1)
        ends = np.cumsum([bias.shape[0] for _, bias in inner[i:]])[:-1]
        places = jnp.split(convolve(maps[-1], kernel), ends, axis=-1)
        for terms, part in zip(given[i:], places, strict=True):
            terms.append(part)
        maps.append(leaky(sum(given[i][1:], start=given[i][0])))
        first = last
    return maps


FORMS: dict[str, Callable[[Weights, jax.Array], jax.Array]] = {
    "concat": concat,
    "parts": parts,
    "spread": spread,
}
