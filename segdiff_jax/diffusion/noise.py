"""Draws standard normal noise for sampling, indexed by reverse step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Noise = Callable[[jax.Array | int], jax.Array]  # 0: x_T; i + 1: z of the step i -> as x_t
FURTHER = 2**31  # number of the key of the second channel, above those of all steps
BLOCK = 16  # pixels; the field consists of squares of this side, each drawn under its own key


def gaussian(key: jax.Array, shape: tuple[int, ...]) -> Noise:
    """Returns noise of a shape, float32, a function of the key and the step alone."""
    return lambda i: jax.random.normal(jax.random.fold_in(key, i), shape)


def field(key: jax.Array, corner: jax.Array, size: tuple[int, int], channels: int = 1) -> Noise:
    """Returns a window [h, w, K] of an unbounded field of noise that the key determines.

    Overlapping windows hold the same noise where they overlap: tiles of one image see the same
    random numbers there and agree at their seams.

    Args:
        key: of the field.
        corner: [2] int32, not negative: row and column of the window's top left pixel.
        size: (h, w) of the window.
        channels: K, each an independent field; the first is that of one channel.
    """
    first, inside = corner // BLOCK, corner % BLOCK
    # one block more than fits: the window may begin within a block
    counts = [-(-side // BLOCK) + 1 for side in size]

    def block(key: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        block_key = jax.random.fold_in(jax.random.fold_in(key, row), column)
        return jax.random.normal(block_key, (BLOCK, BLOCK))

    blocks = jax.vmap(jax.vmap(block, (None, None, 0)), (None, 0, None))
    rows, columns = (first[axis] + jnp.arange(counts[axis]) for axis in (0, 1))

    def window(i: jax.Array | int) -> jax.Array:
        drawn = blocks(jax.random.fold_in(key, i), rows, columns)  # [n, m, BLOCK, BLOCK]
        whole = drawn.transpose(0, 2, 1, 3).reshape(counts[0] * BLOCK, counts[1] * BLOCK)
        return jax.lax.dynamic_slice(whole, (inside[0], inside[1]), size)[..., None]

    if channels == 1:
        return window
    keys = [jax.random.fold_in(key, np.uint32(FURTHER + k)) for k in range(channels - 1)]
    others = [field(own, corner, size) for own in keys]
    return lambda i: jnp.concatenate([window(i), *(other(i) for other in others)], axis=-1)
