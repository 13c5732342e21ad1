"""G, the image encoder: residual-in-residual dense blocks (Wang et al., arXiv 1809.00219)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.layers import Conv, Dtype

leaky = partial(nn.leaky_relu, negative_slope=0.2)
RESIDUAL = 0.2  # scale of every inner residual


class DenseBlock(nn.Module):
    """Five convolutions, each of all that came before it; 0.2 times the last is added to x."""

    growth: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        maps = x
        for i in range(1, 5):
            y = leaky(Conv(self.growth, dtype=self.dtype, name=f"conv{i}")(maps))
            maps = jnp.concatenate([maps, y], axis=-1)  # C + i * growth channels
        return RESIDUAL * Conv(x.shape[-1], dtype=self.dtype, name="conv5")(maps) + x


class RRDB(nn.Module):
    """Three dense blocks with a residual around them."""

    growth: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        h = x
        for i in range(1, 4):
            h = DenseBlock(self.growth, self.dtype, name=f"dense{i}")(h)
        return RESIDUAL * h + x


class RRDBNet(nn.Module):
    """conv, `blocks` RRDBs and a conv inside one residual, conv, leaky ReLU, conv.

    Everything at full resolution; no normalisation, no time, no dropout (paper, section 4.3).
    """

    out: int
    blocks: int
    features: int = 64
    growth: int = 32
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Normalised image [B, H, W, 3] -> [B, H, W, out]."""
        conv = partial(Conv, self.features, dtype=self.dtype)
        first = conv(name="first")(image)
        h = first
        for i in range(self.blocks):
            h = RRDB(self.growth, self.dtype, name=f"rrdb{i}")(h)
        h = first + conv(name="trunk")(h)
        h = leaky(conv(name="high")(h))
        return Conv(self.out, dtype=self.dtype, name="last")(h)
