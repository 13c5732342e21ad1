"""Doubles both sides of a map and convolves it."""

import jax
import jax.numpy as jnp

from segdiff_jax.models.ops.conv import convolve, interleaved


def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] with [3, 3, C, D] float32 -> [B, 2H, 2W, D]."""
    doubled = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return convolve(doubled, kernel.astype(x.dtype))


def folded(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] with [3, 3, C, D] float32 -> [B, 2H, 2W, D]."""
    places = [
        [
            convolve(x, small.astype(x.dtype), ((1 - i, i), (1 - j, j)))
            for j, small in enumerate(_folded(tall, axis=1))
        ]
        for i, tall in enumerate(_folded(kernel, axis=0))
    ]
    return interleaved(places)


def _folded(kernel: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Returns what the first and the second of a doubled pixel see: three taps become two."""
    before, here, after = jnp.split(kernel, 3, axis)
    first = jnp.concatenate([before, here + after], axis)  # of the pixel before, and its own
    second = jnp.concatenate([before + here, after], axis)  # of its own, and the one after
    return first, second
