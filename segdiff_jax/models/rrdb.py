"""G, the image encoder: residual-in-residual dense blocks (Wang et al., arXiv 1809.00219)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.dense_block import RESIDUAL, DenseBlock, leaky
from segdiff_jax.models.layers import Conv, Dtype


class RRDB(nn.Module):
    """Three dense blocks with a residual around them."""

    growth: int
    dtype: Dtype = jnp.float32
    form: str = "concat"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        h = x
        for i in range(1, 4):
            h = DenseBlock(self.growth, self.dtype, self.form, name=f"dense{i}")(h)
        return RESIDUAL * h + x


class RRDBNet(nn.Module):
    """conv, `blocks` RRDBs and a conv inside one residual, conv, leaky ReLU, conv.

    Everything at full resolution; no normalisation, no time, no dropout (paper, section 4.3).

    Attributes:
      out: channels of the features.
      blocks, features, growth: RRDBs, width of the trunk, width that each dense layer adds.
      dtype: of activations; parameters are float32.
      form: how dense blocks are computed, a key of `dense_block.FORMS`.
      remat: keep only what enters an RRDB for the backward pass, and compute it anew there.
    """

    out: int
    blocks: int
    features: int = 64
    growth: int = 32
    dtype: Dtype = jnp.float32
    form: str = "concat"
    remat: bool = False

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Normalised image [B, H, W, 3] -> [B, H, W, out]."""
        conv = partial(Conv, self.features, dtype=self.dtype)
        first = conv(name="first")(image)
        h = first
        block = nn.remat(RRDB) if self.remat else RRDB
        for i in range(self.blocks):
            h = block(self.growth, self.dtype, self.form, name=f"rrdb{i}")(h)
        h = first + conv(name="trunk")(h)
        h = leaky(conv(name="high")(h))
        return Conv(self.out, dtype=self.dtype, name="last")(h)
