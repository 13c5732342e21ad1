"""Images in groups, one group after the other: what is made of a group stays in the cache. NHWC."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from segdiff_jax.models.ops import winograd
from segdiff_jax.models.ops.winograd import TILE_OUT

CACHED_PIXELS = 64 * 64  # of images that are turned into planes together: so many are cached


Tree = Any  # of arrays


def split_in_chunks(maps: Tree, most: int = CACHED_PIXELS) -> Tree:
    """Returns [groups, images, H, W, C] of [B, H, W, C]: images to be turned into planes together.

    All are one group where they are no whole number of groups.

    Args:
      maps: of as many images each.
      most: pixels of a group, but for a single image, which may have more.
    """
    B, H, W = jax.tree.leaves(maps)[0].shape[:3]
    together = max(1, most // (H * W))
    together = B if B % together else together
    return jax.tree.map(lambda x: x.reshape(B // together, together, *x.shape[1:]), maps)


def map_chunks(of: Callable[[Tree], Tree], groups: Tree) -> Tree:
    """Returns what a function makes of each group, [images, H, W, C] -> the same, as [B, ...]."""
    return sum_chunks(lambda group: ((), of(group)), groups)[1]


def sum_chunks(of: Callable[[Tree], tuple[Tree, Tree]], groups: Tree) -> tuple[Tree, Tree]:
    """Returns the sum over groups of what a function returns first, and `each` of the second."""
    first = jax.tree.map(lambda x: x[0], groups)
    if len(jax.tree.leaves(groups)[0]) == 1:
        return of(first)

    def add(sums: Tree, group: Tree) -> tuple[Tree, Tree]:
        more, made = of(group)
        return jax.tree.map(jnp.add, sums, more), made

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of, first)[0])
    sums, made = jax.lax.scan(add, zeros, groups)
    return sums, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), made)


# below these, what surrounds the products takes longer than they save
LEAST_TILES = 16  # of all images


LEAST_INPUTS = 32


LEAST_OUTPUTS = 32


LEAST_PIXELS = 64 * 64  # of an image, for the gradient in the input: each takes time to start


MOST_PIXELS = 4 * 64 * 64  # in turn is a little faster, but each such loop takes time to start


def suits_winograd(x: jax.Array, outputs: int) -> bool:
    """Whether `kernel_gradient` can compute the gradient of a kernel, and sooner than XLA.

    Args:
      x: [B, H, W, C], what the kernel meets.
      outputs: of the kernel.
    """
    B, H, W, C = x.shape
    possible = H % TILE_OUT == 0 and W % TILE_OUT == 0 and x.dtype == jnp.float32
    large = (
        B * H * W >= LEAST_TILES * TILE_OUT**2 and C >= LEAST_INPUTS and outputs >= LEAST_OUTPUTS
    )
    return possible and large and jax.default_backend() == "cpu"


def suits_both(x: jax.Array, outputs: int) -> bool:
    """Whether `both_gradients` is faster than a convolution for the gradient in x, too."""
    return suits_winograd(x, outputs) and x.shape[1] * x.shape[2] >= LEAST_PIXELS


@jax.jit  # traced once for all layers of one shape
def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `convolve(x, kernel)` in the kernel, by products over tiles of 4 x 4 pixels.

    Args:
      x: [B, H, W, C] float32; H and W are multiples of 4.
      dy: [B, H, W, D], the gradient of the result.

    Returns:
      [3, 3, C, D].
    """
    return _gradients(x, dy, lambda *_: ())[0]


@jax.jit
def both_gradients(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of `convolve(x, kernel)` in x and the kernel, from the same planes of dy.

    Args:
      x: [B, H, W, C] float32; H and W are multiples of 4.
      kernel: [3, 3, C, D].
      dy: [B, H, W, D], the gradient of the result.

    Returns:
      [B, H, W, C] and [3, 3, C, D].
    """
    dkernel, dx = _gradients(x, dy, partial(_input_gradient, winograd.transform_filter(kernel)))
    return dx, dkernel


def _input_gradient(kernels: jax.Array, given: jax.Array, maps: winograd.Maps) -> jax.Array:
    """That in x, [B, H, W, C], from the planes of the kernel and of the result's gradient."""
    planes = winograd.input_gradient_planes(kernels, given)
    return winograd.transform_input_vjp(planes, maps)


def _gradients(
    x: jax.Array, dy: jax.Array, back: Callable[[jax.Array, winograd.Maps], Any]
) -> tuple[jax.Array, Any]:
    """That in the kernel, and what `back` makes of the planes of dy, group by group."""

    def of(maps: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        met, given = winograd.transform_input(maps[0]), winograd.transform_output_vjp(maps[1])
        B, H, W, _ = maps[0].shape
        return winograd.kernel_gradient_planes(met, given), back(given, (B, H, W))

    planes, made = sum_chunks(of, split_in_chunks((x, dy), MOST_PIXELS))
    return winograd.transform_filter_vjp(planes), made
