"""How the network knows t."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.models.init import Normal, parameter
from segdiff_jax.models.layers import Linear


def sinusoid(t: jax.Array, channels: int) -> jax.Array:
    """Returns [..., channels] float32: cosines first, then sines, of t / 10000^(i / half)."""
    half = channels // 2
    frequencies = jnp.asarray(np.exp(-np.log(10_000) * np.arange(half) / half), jnp.float32)
    angles = t[..., None].astype(jnp.float32) * frequencies
    embedding = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return jnp.pad(embedding, [(0, 0)] * (embedding.ndim - 1) + [(0, channels % 2)])


class Table(nn.Module):
    """Rows of numbers to be learned; they start with a squared length of one, as linen's do."""

    rows: int
    features: int

    @nn.compact
    def __call__(self, row: jax.Array) -> jax.Array:
        """[B] int32 in 0..rows - 1 -> [B, features] float32."""
        start = Normal(self.features**-0.5)
        table = parameter(self, "embedding", start, (self.rows, self.features))
        return jnp.take(table, row, axis=0)


class TimeEmbedding(nn.Module):
    """t in 1..T -> [B, 4 channels], float32, shared by every block of the U-Net.

    kind "sinusoidal" is the authors' code: fixed waves, linear, SiLU, linear. "table" is the
    paper's learned look-up (section 4) of T rows.
    """

    channels: int
    kind: str = "sinusoidal"
    T: int = 100

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        """[B] int32 in 1..T -> [B, 4 * channels] float32."""
        t = t - 1  # the authors count from 0
        if self.kind == "table":
            return Table(self.T, 4 * self.channels, name="table")(t)
        h = Linear(4 * self.channels, name="linear1")(sinusoid(t, self.channels))
        return Linear(4 * self.channels, name="linear2")(nn.silu(h))
