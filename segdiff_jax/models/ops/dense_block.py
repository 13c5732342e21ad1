"""Computes residual dense blocks in one of three forms; the CPU's form is in this file.

The reference is `dense_block_reference`. All forms have the same parameters and the same result but
for rounding. Which is fastest depends on the device (docs/performance_log.md):

  concat  the reference: all maps so far are joined and convolved for every layer, 5 convolutions of
          32 and 64 output channels, and every layer copies all maps before it
  spread  each map is convolved once into all later inner layers, and all maps are joined only for
          the last: 128, 96, 64, 32 and 64 output channels, which suits matrix units better than 32
          each. With a gradient written by hand (`dense_block_gpu`), the fastest on GPUs
  parts   as spread where no gradient is computed; with gradients, Winograd's F(4x4, 3x3) of each
          map into all later layers, a quarter of the multiplications. The fastest on CPUs
"""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.models.ops import winograd
from segdiff_jax.models.ops.dense_block_gpu import dense_block_wide, last_layer_wide
from segdiff_jax.models.ops.dense_block_reference import (
    RESIDUAL,
    SLOPE,
    Weights,
    dense_block_reference,
    first_channels,
    leaky_relu,
)
from segdiff_jax.models.ops.switch import use_reference
from segdiff_jax.models.ops.winograd_conv import kernel_grad_pays, split_in_chunks, sum_chunks
from segdiff_jax.models.ops.xla import optimization_barrier


def dense_block(form: str, weights: Weights, x: jax.Array) -> jax.Array:
    """Computes a dense block in a form of `FORMS`: [B, H, W, C] -> [B, H, W, C]."""
    return dense_block_reference(weights, x) if use_reference() else FORMS[form](weights, x)


def dense_block_winograd(weights: Weights, x: jax.Array) -> jax.Array:
    """Computes the block by Winograd's algorithm where gradients are computed and it is faster."""
    return RESIDUAL * last_layer_winograd(weights, x) + x


def last_layer_winograd(weights: Weights, x: jax.Array) -> jax.Array:
    """Computes the last layer, [B, H, W, C] -> [B, H, W, C]."""
    outputs = sum(bias.shape[0] for _, bias in weights)
    return _winograd(weights, x) if kernel_grad_pays(x, outputs) else last_layer_wide(weights, x)


FORMS: dict[str, Callable[[Weights, jax.Array], jax.Array]] = {
    "concat": dense_block_reference,
    "parts": dense_block_winograd,
    "spread": dense_block_wide,
}
SCANNED = {"parts"}  # forms whose dense blocks are the body of one loop


@jax.custom_vjp
def _winograd(weights: Weights, x: jax.Array) -> jax.Array:
    return last_layer_wide(weights, x)


def _winograd_forward(weights: Weights, x: jax.Array) -> tuple[jax.Array, tuple]:
    """Returns the last layer, and the residuals: the weights, and the map of each layer."""
    biases = [bias for _, bias in weights]
    layers = partial(_layers, _transform_filters(weights), biases, first_channels(weights))
    _, (y, maps) = sum_chunks(lambda chunk: ((), layers(chunk)), split_in_chunks(x))
    return y, (weights, [x, *maps])


def _layers(
    filters: list[jax.Array], biases: list[jax.Array], first: list[int], x: jax.Array
) -> tuple[jax.Array, list[jax.Array]]:
    """Returns the last layer, and the maps of the others.

    Every map is transformed once. A layer's products are summed over all maps before they are
    transformed back.
    """
    maps, transformed = [x], []
    for j, bias in enumerate(biases):
        transformed.append(winograd.transform_input(maps[-1]))
        ranges = zip(transformed, pairwise(first), strict=False)
        m = _sum(winograd.multiply(v, filters[j][:, a:b]) for v, (a, b) in ranges)
        maps.append(leaky_relu(y := winograd.transform_output(m, x.shape[:3]) + bias))
    return y, maps[1:-1]


def _winograd_backward(residuals: tuple, dy: jax.Array) -> tuple[Weights, jax.Array]:
    """Returns the gradients in the weights and in x."""
    weights, maps = residuals
    grads = partial(_grads, _transform_filters(weights), first_channels(weights))
    (d_filters, d_biases), dx = sum_chunks(grads, split_in_chunks((maps, dy)))
    return list(zip(_kernel_grads(d_filters, d_biases), d_biases, strict=True)), dx


_winograd.defvjp(_winograd_forward, _winograd_backward)


def _grads(
    filters: list[jax.Array], first: list[int], chunk: tuple[list[jax.Array], jax.Array]
) -> tuple[tuple[list[jax.Array], list[jax.Array]], jax.Array]:
    """Computes ((d_filters, d_biases), dx) of a chunk of images, from the last layer to the first.

    d_filters are of each map, [36, C, outputs of all later layers], in the transformed filters.
    """
    maps, dy = chunk
    transformed = [winograd.transform_input(x) for x in maps]
    dz, dms, d_biases = dy, [], []  # of layers j, j + 1, ..: gradients before their activation
    for j in range(len(maps) - 1, -1, -1):
        dms.insert(0, winograd.transform_output_vjp(dz))
        d_biases.insert(0, dz.sum((0, 1, 2)))
        channels = slice(first[j], first[j + 1])
        later = zip(dms, filters[j:], strict=True)
        dv = _sum(winograd.multiply_vjp_input(u[:, channels], dm) for dm, u in later)
        d_map = winograd.transform_input_vjp(dv, dy.shape[:3])
        dz = jnp.where(maps[j] >= 0, d_map, SLOPE * d_map)
    d_filters = [
        winograd.multiply_vjp_filter(v, jnp.concatenate(dms[i:], axis=-1))
        for i, v in enumerate(transformed)
    ]
    return (d_filters, d_biases), d_map


def _kernel_grads(d_filters: list[jax.Array], d_biases: list[jax.Array]) -> list[jax.Array]:
    """Returns the gradient in each layer's kernel [3, 3, in, out]."""
    parts = []  # parts[i][j - i]: of the channels of map i, in the kernel of layer j
    for i, du in enumerate(d_filters):
        ends = np.cumsum([d_bias.shape[0] for d_bias in d_biases[i:]])[:-1]
        parts.append(jnp.split(winograd.transform_filter_vjp(du), ends, axis=-1))
    layers = range(len(d_filters))
    return [jnp.concatenate([parts[i][j - i] for i in layers[: j + 1]], axis=2) for j in layers]


def _transform_filters(weights: Weights) -> list[jax.Array]:
    return optimization_barrier([winograd.transform_filter(kernel) for kernel, _ in weights])


def _sum(products: Iterable[jax.Array]) -> jax.Array:
    """Returns the sum, materialized: XLA would recompute it in each of its consumers."""
    return optimization_barrier(reduce(jnp.add, products))
