"""The dense block of G: five convolutions, each of all maps before it, written in three ways.

All three have the same parameters and the same result but for rounding. Which is fastest depends on
the device (docs/performance.md has the figures):

  concat  all maps so far are joined and convolved for every layer: 5 convolutions of 32 and 64
          output channels, and every layer copies all maps before it
  spread  each map is convolved once, into all later inner layers, and all maps are joined only for
          the last: 128, 96, 64, 32 and 64 output channels, which suits matrix units better than 32
          each. With a gradient of its own (`spread`), the fastest on GPUs
  parts   the same where no gradient is asked for, and with gradients each map into all later layers
          by Winograd's planes, which are a quarter of the products. The fastest on CPUs
"""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.models.ops import winograd
from segdiff_jax.models.ops.conv import convolve
from segdiff_jax.models.ops.dense_block_gpu import dense_block_wide, last_layer
from segdiff_jax.models.ops.dense_params import RESIDUAL, SLOPE, Weights, first_channels, leaky
from segdiff_jax.models.ops.winograd_conv import (
    map_chunks,
    split_in_chunks,
    suits_winograd,
    sum_chunks,
)
from segdiff_jax.models.ops.xla import optimization_barrier

Form = Callable[[Weights, jax.Array], jax.Array]


def dense_block(form: str, weights: Weights, x: jax.Array) -> jax.Array:
    """0.2 times the last layer is added to x: [B, H, W, C] -> [B, H, W, C]."""
    return FORMS[form](weights, x)


def dense_block_reference(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns the last layer, [B, H, W, C]."""
    *inner, (kernel, bias) = weights
    maps = x
    for k, b in inner:
        maps = jnp.concatenate([maps, leaky(convolve(maps, k) + b)], axis=-1)
    return convolve(maps, kernel) + bias


def dense_block_winograd(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns the last layer, [B, H, W, C]."""
    every = sum(bias.shape[0] for _, bias in weights)
    return _parts(weights, x) if suits_winograd(x, every) else last_layer(weights, x)


@jax.custom_vjp
def _parts(weights: Weights, x: jax.Array) -> jax.Array:
    return last_layer(weights, x)


def _parts_forward(weights: Weights, x: jax.Array) -> tuple[jax.Array, tuple]:
    """The last layer, and what `_parts_backward` needs: the weights, and the map of each layer."""
    biases = [bias for _, bias in weights]
    layers = partial(_layers, _kernels(weights), biases, first_channels(weights))
    y, maps = map_chunks(layers, split_in_chunks(x))
    return y, (weights, [x, *maps])


def _layers(
    kernels: list[jax.Array], biases: list[jax.Array], first: list[int], x: jax.Array
) -> tuple[jax.Array, list[jax.Array]]:
    """The last layer, and the map of each other.

    Every map is turned into planes once. A layer's planes are the sum of what all maps give to it.
    """
    maps, met = [x], []
    for j, bias in enumerate(biases):
        met.append(winograd.transform_input(maps[-1]))
        ends = zip(met, pairwise(first), strict=False)
        planes = _sum(winograd.multiply(m, kernels[j][:, a:b]) for m, (a, b) in ends)
        maps.append(leaky(y := winograd.transform_output(planes, x.shape[:3]) + bias))
    return y, maps[1:-1]


def _parts_backward(kept: tuple, dy: jax.Array) -> tuple[Weights, jax.Array]:
    """Gradients in the weights and in x."""
    weights, maps = kept
    gradients = partial(_gradients, _kernels(weights), first_channels(weights))
    (planes, biases), dx = sum_chunks(gradients, split_in_chunks((maps, dy)))
    return list(zip(_kernel_gradients(planes, biases), biases, strict=True)), dx


def _gradients(
    kernels: list[jax.Array], first: list[int], kept: tuple[list[jax.Array], jax.Array]
) -> tuple[tuple[list[jax.Array], list[jax.Array]], jax.Array]:
    """Gradients in the planes of kernels and in biases, and in x, from the last layer to the first.

    The first are of each map, [36, C, outputs of all layers after it].
    """
    maps, dy = kept
    met = [winograd.transform_input(x) for x in maps]
    dz, given, biases = dy, [], []  # of layers j, j + 1, ..: gradients before their activation
    for j in range(len(maps) - 1, -1, -1):
        given.insert(0, winograd.transform_output_vjp(dz))
        biases.insert(0, dz.sum((0, 1, 2)))
        part = slice(first[j], first[j + 1])
        into = zip(given, kernels[j:], strict=True)
        planes = _sum(winograd.input_gradient_planes(k[:, part], dz) for dz, k in into)
        dmap = winograd.transform_input_vjp(planes, dy.shape[:3])
        dz = jnp.where(maps[j] >= 0, dmap, SLOPE * dmap)
    later = [jnp.concatenate(given[i:], axis=-1) for i in range(len(given))]
    found = [winograd.kernel_gradient_planes(m, dz) for m, dz in zip(met, later, strict=True)]
    return (found, biases), dmap


def _kernel_gradients(planes: list[jax.Array], biases: list[jax.Array]) -> list[jax.Array]:
    """Of each layer, from the planes of each map into all layers after it."""
    found = []
    for i, later in enumerate(planes):
        ends = np.cumsum([bias.shape[0] for bias in biases[i:]])[:-1]
        found.append(jnp.split(winograd.transform_filter_vjp(later), ends, axis=-1))
    return [
        jnp.concatenate([found[i][j - i] for i in range(j + 1)], axis=2) for j in range(len(planes))
    ]


def _kernels(weights: Weights) -> list[jax.Array]:
    return optimization_barrier([winograd.transform_filter(kernel) for kernel, _ in weights])


def _sum(planes: Iterable[jax.Array]) -> jax.Array:
    """Returns the sum, made once: the compiler would add for each that reads it."""
    return optimization_barrier(reduce(jnp.add, planes))


_parts.defvjp(_parts_forward, _parts_backward)


def _residual(last: Form, weights: Weights, x: jax.Array) -> jax.Array:
    return RESIDUAL * last(weights, x) + x


FORMS: dict[str, Form] = {
    "concat": partial(_residual, dense_block_reference),
    "parts": partial(_residual, dense_block_winograd),
    "spread": dense_block_wide,
}


LOOPED = {"parts"}  # forms whose dense blocks are one program, run once for each
