"""Embeds the time step t."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.models.init import Normal, parameter
from segdiff_jax.models.layers import Linear


def sinusoid(t: jax.Array, channels: int) -> jax.Array:
    """Embeds t [...] as cosines, then sines, of t / 10000^(i / half): [..., channels] float32."""
    half = channels // 2
    frequencies = jnp.asarray(np.exp(-np.log(10_000) * np.arange(half) / half), jnp.float32)
    angles = t[..., None].astype(jnp.float32) * frequencies
    embedding = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return jnp.pad(embedding, [(0, 0)] * (embedding.ndim - 1) + [(0, channels % 2)])


class Table(nn.Module):
    """A learned embedding table; the expected squared length of a fresh row is 1, as in linen."""

    rows: int
    features: int

    @nn.compact
    def __call__(self, row: jax.Array) -> jax.Array:
        """Maps [B] int32 in 0..rows - 1 to [B, features] float32."""
        shape = self.rows, self.features
        table = parameter(self, "embedding", Normal(self.features**-0.5), shape)
        return jnp.take(table, row, axis=0)


class TimeEmbedding(nn.Module):
    """Embeds t in 1..T as a vector that every block of the U-Net shares.

    kind "sinusoidal" is the authors' code: sinusoids, linear, SiLU, linear. "table" is the paper's
    learned table of T rows (section 4).
    """

    channels: int
    kind: str = "sinusoidal"
    T: int = 100

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        """Maps [B] int32 in 1..T to [B, 4 * channels] float32."""
        t = t - 1  # the authors count from 0
        if self.kind == "table":
            return Table(self.T, 4 * self.channels, name="table")(t)
        h = Linear(4 * self.channels, name="linear1")(sinusoid(t, self.channels))
        return Linear(4 * self.channels, name="linear2")(nn.silu(h))
