"""The dense block of G: five convolutions, each of all maps before it, written in three ways.

All three have the same parameters and the same result but for rounding. Which is fastest depends on
the device (docs/performance.md has the figures):

  concat  the maps are joined and convolved: one wide convolution a layer, but every layer copies
          all maps before it
  parts   each map is convolved with its own slice of the kernel, and the results are added: nothing
          is copied, 15 narrower convolutions instead of 5; the fastest on CPU
  spread  the input is convolved once into all layers, and each inner map once into all later inner
          ones: 192, 96, 64 and 32 output channels, which suits matrix units better than 32 each;
          for the last layer the inner maps are joined. The fastest on GPU, slow backward on CPU
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
    return _parts(weights, x) if suits_winograd(x, every) else _parts_forward(weights, x)[0]


@jax.custom_vjp
def _parts(weights: Weights, x: jax.Array) -> jax.Array:
    return _parts_forward(weights, x)[0]


def _parts_forward(weights: Weights, x: jax.Array) -> tuple[jax.Array, tuple]:
    maps: list[jax.Array] = []
    y = x
    for kernel, bias in weights:
        maps.append(y if not maps else leaky(y))
        y = bias
        for m, part in zip(maps, _slices(kernel, maps), strict=True):
            y = convolve(m, part) + y
    return y, (weights, maps)


def _parts_backward(kept: tuple, dy: jax.Array) -> tuple[Weights, jax.Array]:
    """Gradients in the weights and in x.

    A kernel of few outputs makes a slow gradient, so those of all layers are computed together, as
    one kernel's from all maps to all layers; what no layer reads is thrown away, and is less than
    what would be lost.
    """
    weights, maps = kept
    widths = [m.shape[-1] for m in maps]
    growth, first = widths[-1], np.cumsum([0, *widths])
    dz = dy  # of what layers j, j + 1, .. give before their activation, side by side
    for j in range(len(maps) - 1, -1, -1):
        part = slice(first[j], first[j + 1])
        later = jnp.concatenate([kernel[:, :, part] for kernel, _ in weights[j:]], axis=-1)
        dmap = input_gradient(later, dz)
        if j:
            dz = jnp.concatenate([jnp.where(maps[j] >= 0, dmap, SLOPE * dmap), dz], axis=-1)
    every = winograd(jnp.concatenate(maps, axis=-1), dz)
    bias = dz.sum((0, 1, 2))
    outputs = [slice(i * growth, i * growth + b.shape[0]) for i, (_, b) in enumerate(weights)]
    found = [(every[:, :, :n, out], bias[out]) for n, out in zip(first[1:], outputs, strict=True)]
    return found, dmap


_parts.defvjp(_parts_forward, _parts_backward)


def _slices(kernel: jax.Array, maps: list[jax.Array]) -> list[jax.Array]:
    """Returns the part of a kernel that meets each of the maps, [3, 3, c, features]."""
    return jnp.split(kernel, np.cumsum([m.shape[-1] for m in maps])[:-1], axis=2)


def spread(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns the last layer, [B, H, W, C]."""
    C, growth = x.shape[-1], weights[0][1].shape[0]
    *inner, (kernel, _) = weights
    # what each layer has been given; added up once all is there, so that it is read only once
    given = [[bias] for _, bias in weights]
    maps: list[jax.Array] = []
    y, inputs, later = x, slice(0, C), weights
    for i in range(len(inner)):
        for terms, part in zip(given[i:], _into(later, y, inputs), strict=False):
            terms.append(part)
        y = leaky(_sum(given[i]))
        maps.append(y)
        inputs = slice(C + i * growth, C + (i + 1) * growth)
        later = inner[i + 1 :]
    given[-1].append(convolve(jnp.concatenate(maps, axis=-1), kernel[:, :, C:]))
    return _sum(given[-1])


def _into(later: Weights, y: jax.Array, inputs: slice) -> list[jax.Array]:
    """Returns what a map gives to each of some layers, by one convolution."""
    kernel = jnp.concatenate([k[:, :, inputs] for k, _ in later], axis=-1)
    ends = np.cumsum([bias.shape[0] for _, bias in later])[:-1]
    return jnp.split(convolve(y, kernel), ends, axis=-1)


def _sum(terms: list[jax.Array]) -> jax.Array:
    return sum(terms[1:], start=terms[0])


FORMS: dict[str, Callable[[Weights, jax.Array], jax.Array]] = {
    "concat": concat,
    "parts": parts,
    "spread": spread,
}
