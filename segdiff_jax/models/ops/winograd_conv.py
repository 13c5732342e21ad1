"""Computes gradients of 3 x 3 convolutions by Winograd's F(4x4, 3x3) on a CPU. NHWC.

The reference is what JAX derives from `conv.conv2d_reference`. Batches are processed in chunks that
fit the cache, one after the other in a `lax.scan`. The predicates `*_pays` hold the sizes from
which the transforms cost less than the matrix products save.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from segdiff_jax.models.ops import winograd
from segdiff_jax.models.ops.winograd import TILE_OUT

Tree = Any  # of arrays

CACHED_PIXELS = 64 * 64  # of a chunk whose transformed tiles fit the cache
# Below these sizes the transforms cost more than the matrix products save.
MIN_TILES = 16  # of all images
MIN_CHANNELS = 32  # of inputs, and of outputs
MIN_PIXELS = 64 * 64  # of an image, for the gradient in the input: each chunk takes time to start
# smaller chunks are a little faster, but each loop takes time to start
CHUNK_PIXELS = 4 * 64 * 64


def kernel_grad_pays(x: jax.Array, outputs: int) -> bool:
    """Returns whether Winograd applies to x [B, H, W, C] and computes a kernel's gradient faster.

    It applies to float32 maps on a CPU whose sides are multiples of 4.
    """
    B, H, W, C = x.shape
    applies = H % TILE_OUT == 0 and W % TILE_OUT == 0 and x.dtype == jnp.float32
    large = B * H * W >= MIN_TILES * TILE_OUT**2 and min(C, outputs) >= MIN_CHANNELS
    return applies and large and jax.default_backend() == "cpu"


def input_grad_pays(x: jax.Array, outputs: int) -> bool:
    """Returns whether Winograd computes the gradient in x faster, too."""
    return kernel_grad_pays(x, outputs) and x.shape[1] * x.shape[2] >= MIN_PIXELS


@jax.jit  # traced once for all layers of one shape
def winograd_kernel_grad(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Computes the gradient of `conv2d(x, kernel)` in the kernel, [3, 3, C, D].

    From x [B, H, W, C] float32, H and W multiples of 4, and dy [B, H, W, D].
    """
    return _grads(x, dy, lambda *_: ())[0]


@jax.jit
def winograd_grads(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes the gradients of `conv2d(x, kernel)` in x and the kernel from one transform of dy.

    x is [B, H, W, C] float32, H and W multiples of 4; the kernel [3, 3, C, D]; dy [B, H, W, D].
    """
    u = winograd.transform_filter(kernel)

    def input_grad(dm: jax.Array, maps: winograd.Maps) -> jax.Array:
        return winograd.transform_input_vjp(winograd.multiply_vjp_input(u, dm), maps)

    d_kernel, dx = _grads(x, dy, input_grad)
    return dx, d_kernel


def _grads(
    x: jax.Array, dy: jax.Array, input_grad: Callable[[jax.Array, winograd.Maps], Any]
) -> tuple[jax.Array, Any]:
    """Computes the gradient in the kernel, and `input_grad` of each chunk's transformed dy."""

    def chunk_grads(chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        v, dm = winograd.transform_input(chunk[0]), winograd.transform_output_vjp(chunk[1])
        B, H, W, _ = chunk[0].shape
        return winograd.multiply_vjp_filter(v, dm), input_grad(dm, (B, H, W))

    du, dx = sum_chunks(chunk_grads, split_in_chunks((x, dy), CHUNK_PIXELS))
    return winograd.transform_filter_vjp(du), dx


def split_in_chunks(maps: Tree, pixels: int = CACHED_PIXELS) -> Tree:
    """Reshapes [B, H, W, C] to [chunks, images, H, W, C] with at most `pixels` in a chunk.

    A single image may have more. Where B is no multiple of the images of a chunk, all images are
    one chunk.
    """
    B, H, W = jax.tree.leaves(maps)[0].shape[:3]
    images = max(1, pixels // (H * W))
    images = B if B % images else images
    return jax.tree.map(lambda x: x.reshape(B // images, images, *x.shape[1:]), maps)


def sum_chunks(function: Callable[[Tree], tuple[Tree, Tree]], chunks: Tree) -> tuple[Tree, Tree]:
    """Applies a function to each chunk; sums its first results and joins its second to [B, ...]."""
    first = jax.tree.map(lambda x: x[0], chunks)
    if len(jax.tree.leaves(chunks)[0]) == 1:
        return function(first)

    def step(sums: Tree, chunk: Tree) -> tuple[Tree, Tree]:
        terms, maps = function(chunk)
        return jax.tree.map(jnp.add, sums, terms), maps

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first)[0])
    sums, maps = jax.lax.scan(step, zeros, chunks)
    return sums, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), maps)
