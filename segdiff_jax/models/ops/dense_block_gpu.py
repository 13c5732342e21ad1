"""Computes a residual dense block by convolving each map once into all later layers. NHWC.

The reference is `dense_block_reference`. The gradient is written by hand with the same layout: the
gradient of a layer is convolved once into all inner maps before it. The gradient that JAX derives
joins more maps, and sums them over pixels in the pass that joins them, far below the speed of a
GPU's memory (docs/performance_log.md).
"""

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.models.ops.conv import bias_grad, conv2d, conv2d_reference, flip_and_transpose
from segdiff_jax.models.ops.dense_block_reference import (
    RESIDUAL,
    SLOPE,
    Weights,
    first_channels,
    leaky_relu,
)
from segdiff_jax.models.ops.xla import optimization_barrier


def last_layer_wide(weights: Weights, x: jax.Array) -> jax.Array:
    """Computes the last layer, [B, H, W, C] -> [B, H, W, C]."""
    kernel, bias = weights[-1]
    return conv2d(_join_maps(weights[:-1], x), kernel) + bias


def _join_maps(inner: Weights, x: jax.Array) -> jax.Array:
    """Returns x and the maps of the inner layers, each map convolved once into all later ones."""
    # the terms of each layer, summed once all are computed, so that each is read only once
    terms = [[bias] for _, bias in inner]
    maps, first = [x], 0
    for i in range(len(inner)):
        last = first + maps[-1].shape[-1]
        kernel = jnp.concatenate([k[:, :, first:last] for k, _ in inner[i:]], axis=-1)
        ends = np.cumsum([bias.shape[0] for _, bias in inner[i:]])[:-1]
        parts = jnp.split(conv2d(maps[-1], kernel), ends, axis=-1)
        for layer_terms, part in zip(terms[i:], parts, strict=True):
            layer_terms.append(part)
        maps.append(leaky_relu(sum(terms[i][1:], start=terms[i][0])))
        first = last
    return jnp.concatenate(maps, axis=-1)


@jax.custom_vjp
def dense_block_wide(weights: Weights, x: jax.Array) -> jax.Array:
    """Computes the block: [B, H, W, C] -> [B, H, W, C]."""
    return _forward(weights, x)[0]


def _forward(weights: Weights, x: jax.Array) -> tuple[jax.Array, tuple[Weights, jax.Array]]:
    kernel, bias = weights[-1]
    joined = _join_maps(weights[:-1], x)
    # in this order cuDNN can compute it as one kernel: scaled, bias and x added
    return RESIDUAL * conv2d(joined, kernel) + RESIDUAL * bias + x, (weights, joined)


def _backward(residuals: tuple[Weights, jax.Array], dy: jax.Array) -> tuple[Weights, jax.Array]:
    """Returns the gradients in the weights and in x."""
    (*inner, (kernel, bias)), joined = residuals
    dy = optimization_barrier(dy)
    d_joined = _input_grad(kernel, dy)  # of all maps, by the last layer; not yet scaled
    dz = optimization_barrier(jnp.concatenate(_inner_grads(inner, joined, d_joined), axis=-1))

    C = dy.shape[-1]
    kernels = jnp.concatenate([k[:, :, :C] for k, _ in inner], axis=-1)
    dx = _float32(dy) + RESIDUAL * _float32(d_joined[..., :C])
    dx = (dx + _float32(_input_grad(kernels, dz))).astype(dy.dtype)

    grads = _split_by_layer(inner, _kernel_grad(joined, dz), bias_grad(dz))
    # a GPU's library tiles over outputs, and is faster at 64 to 192 channels than at 192 to 64
    last = flip_and_transpose(_kernel_grad(dy, joined))
    grads.append((RESIDUAL * last, RESIDUAL * bias_grad(dy)))
    return [(k, b.astype(bias.dtype)) for k, b in grads], dx


def _input_grad(kernel: jax.Array, dy: jax.Array) -> jax.Array:
    """Computes the gradient of a convolution: [3, 3, C, D], [B, H, W, D] -> [B, H, W, C]."""
    x = jax.ShapeDtypeStruct((*dy.shape[:3], kernel.shape[2]), dy.dtype)
    return jax.linear_transpose(lambda x: conv2d_reference(x, kernel), x)(dy)[0]


def _kernel_grad(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Computes the gradient of a convolution: [B, H, W, C], [B, H, W, D] -> [3, 3, C, D]."""
    kernel = jax.ShapeDtypeStruct((3, 3, x.shape[-1], dy.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: conv2d_reference(x, kernel), kernel)(dy)[0]


def _inner_grads(inner: Weights, joined: jax.Array, d_joined: jax.Array) -> list[jax.Array]:
    """Computes the gradients [B, H, W, D] of the inner layers before their activation.

    They are computed from the last layer to the first. `joined` are all maps, and `d_joined` their
    gradient by the last layer, without the scale of the residual.
    """
    first = first_channels(inner)
    C, ends = first[1], [*first[1:], joined.shape[-1]]
    d_maps, dz = [], []  # d_maps: by each later layer, of all inner maps before it
    for j in range(len(inner) - 1, -1, -1):
        start, stop = ends[j], ends[j + 1]
        d = RESIDUAL * _float32(d_joined[..., start:stop])
        for d_map in d_maps:
            d = d + _float32(d_map[..., start - C : stop - C])
        d = jnp.where(joined[..., start:stop] >= 0, d, SLOPE * d).astype(joined.dtype)
        dz.insert(0, optimization_barrier(d) if j else d)
        if j:
            d_maps.append(_input_grad(inner[j][0][:, :, C:], dz[0]))
    return dz


def _split_by_layer(inner: Weights, kernels: jax.Array, biases: jax.Array) -> Weights:
    """Splits gradients joined along outputs; a layer's kernel reads only the maps before it."""
    ends = np.cumsum([bias.shape[0] for _, bias in inner])[:-1]
    layers = zip(inner, jnp.split(kernels, ends, -1), jnp.split(biases, ends), strict=True)
    return [(k[:, :, : kernel.shape[2]], b) for (kernel, _), k, b in layers]


def _float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32)


dense_block_wide.defvjp(_forward, _backward)
