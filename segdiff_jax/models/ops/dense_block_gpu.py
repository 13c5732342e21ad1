"""A dense block whose maps are convolved once, each into all later layers. NHWC.

The gradient is written by hand, the same way round: what reaches a layer is convolved once into
all inner maps before it. As derived it joins more maps, and sums them over pixels in the pass that
joins them, at a fifth of the speed of a GPU's memory (docs/performance.md).
"""

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.models.ops.conv import (
    bias_gradient,
    convolve,
    gradient_in_input,
    gradient_in_kernel,
    turned,
)
from segdiff_jax.models.ops.dense_params import RESIDUAL, SLOPE, Weights, first_channels, leaky
from segdiff_jax.models.ops.xla import optimization_barrier


def last_layer(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns the last layer, [B, H, W, C]."""
    kernel, bias = weights[-1]
    return convolve(_joined(weights[:-1], x), kernel) + bias


def _joined(inner: Weights, x: jax.Array) -> jax.Array:
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
    return jnp.concatenate(maps, axis=-1)


@jax.custom_vjp
def dense_block_wide(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns x and 0.2 times the last layer, [B, H, W, C]."""
    return _forward(weights, x)[0]


def _forward(weights: Weights, x: jax.Array) -> tuple[jax.Array, tuple[Weights, jax.Array]]:
    kernel, bias = weights[-1]
    joined = _joined(weights[:-1], x)
    # in this order it can be one kernel of a GPU's library: scaled, bias and x added
    return RESIDUAL * convolve(joined, kernel) + RESIDUAL * bias + x, (weights, joined)


def _backward(kept: tuple[Weights, jax.Array], dy: jax.Array) -> tuple[Weights, jax.Array]:
    """Gradients in the weights and in x."""
    (*inner, (kernel, bias)), joined = kept
    dy = optimization_barrier(dy)
    dmaps = gradient_in_input(kernel, dy)  # of all maps, by the last layer; not yet scaled
    dz = optimization_barrier(jnp.concatenate(_inner_gradients(inner, joined, dmaps), axis=-1))

    C = dy.shape[-1]
    kernels = jnp.concatenate([k[:, :, :C] for k, _ in inner], axis=-1)
    dx = _float32(dy) + RESIDUAL * _float32(dmaps[..., :C])
    dx = (dx + _float32(gradient_in_input(kernels, dz))).astype(dy.dtype)

    found = _by_layer(inner, gradient_in_kernel(joined, dz), bias_gradient(dz))
    # a GPU's library makes tiles of outputs, and is faster at 64 to 192 than at 192 to 64
    last = turned(gradient_in_kernel(dy, joined))
    found.append((RESIDUAL * last, RESIDUAL * bias_gradient(dy)))
    return [(k, b.astype(bias.dtype)) for k, b in found], dx


def _inner_gradients(inner: Weights, joined: jax.Array, dmaps: jax.Array) -> list[jax.Array]:
    """Gradients in the inner layers before their activation, from the last to the first.

    Args:
      inner: their weights.
      joined: all maps.
      dmaps: what the last layer gives to each map, without the scale of the residual.

    Returns:
      [B, H, W, D] of each, the first layer's first.
    """
    first = first_channels(inner)
    C, ends = first[1], [*first[1:], joined.shape[-1]]
    given: list[jax.Array] = []  # by each layer, to all inner maps before it
    dz: list[jax.Array] = []
    for j in range(len(inner) - 1, -1, -1):
        start, stop = ends[j], ends[j + 1]
        d = RESIDUAL * _float32(dmaps[..., start:stop])
        for dmap in given:
            d = d + _float32(dmap[..., start - C : stop - C])
        d = jnp.where(joined[..., start:stop] >= 0, d, SLOPE * d).astype(joined.dtype)
        dz.insert(0, optimization_barrier(d) if j else d)
        if j:
            given.append(gradient_in_input(inner[j][0][:, :, C:], dz[0]))
    return dz


def _by_layer(inner: Weights, kernels: jax.Array, biases: jax.Array) -> Weights:
    """Splits gradients that are joined along outputs; a layer's kernel meets only earlier maps."""
    ends = np.cumsum([bias.shape[0] for _, bias in inner])[:-1]
    pairs = zip(jnp.split(kernels, ends, axis=-1), jnp.split(biases, ends), strict=True)
    places = zip(inner, pairs, strict=True)
    return [(k[:, :, : kernel.shape[2]], b) for (kernel, _), (k, b) in places]


def _float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32)


dense_block_wide.defvjp(_forward, _backward)
