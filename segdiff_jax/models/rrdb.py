"""The parameters of a dense block, and its numbers."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.layers import Conv, ConvWeights
from segdiff_jax.models.ops.dense_block import LOOPED, dense_block
from segdiff_jax.models.ops.dense_params import RESIDUAL, Weights, leaky
from segdiff_jax.models.ops.group_norm import Dtype


class DenseWeights(nn.Module):
    """The parameters of five convolutions, each of all that came before it."""

    features: int
    growth: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self) -> Weights:
        """-> those of each layer, as `dtype`."""
        weights: Weights = []
        for i, width in enumerate([*[self.growth] * 4, self.features]):
            inputs = self.features + i * self.growth
            kernel, bias = ConvWeights(inputs, width, name=f"conv{i + 1}")()
            weights.append((kernel.astype(self.dtype), bias.astype(self.dtype)))
        return weights


DENSE = 3  # dense blocks of an RRDB


class RRDBWeights(nn.Module):
    """The parameters of three dense blocks."""

    features: int
    growth: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self) -> list[Weights]:
        """-> those of each dense block, as `dtype`."""
        names = [f"dense{i + 1}" for i in range(DENSE)]
        return [DenseWeights(self.features, self.growth, self.dtype, name=n)() for n in names]


def rrdb(form: str, blocks: list[Weights], x: jax.Array) -> jax.Array:
    """Three dense blocks with a residual around them: [B, H, W, C] -> [B, H, W, C]."""
    h = x
    for weights in blocks:
        h = dense_block(form, weights, h)
    return RESIDUAL * h + x


def looped(form: str, rrdbs: list[list[Weights]], x: jax.Array) -> jax.Array:
    """All RRDBs as one loop over dense blocks, so that a program holds only one of those.

    A CPU loads it sooner, and its working memory is less.
    """

    def dense(
        maps: tuple[jax.Array, jax.Array], block: tuple[Weights, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        (entered, h), (weights, last) = maps, block
        h = dense_block(form, weights, h)
        left = RESIDUAL * h + entered  # the RRDB, where it was its last
        return (jnp.where(last, left, entered), jnp.where(last, left, h)), None

    every = [weights for blocks in rrdbs for weights in blocks]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *every)
    last = jnp.arange(len(every)) % DENSE == DENSE - 1
    return jax.lax.scan(dense, (x, x), (stacked, last))[0][0]


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
        h = first + conv(name="trunk")(self.blocked(first))
        h = leaky(conv(name="high")(h))
        return Conv(self.out, dtype=self.dtype, name="last")(h)

    def blocked(self, x: jax.Array) -> jax.Array:
        """All RRDBs: [B, H, W, features] -> [B, H, W, features]."""
        names = [f"rrdb{i}" for i in range(self.blocks)]
        rrdbs = [RRDBWeights(self.features, self.growth, self.dtype, name=n)() for n in names]
        if self.form in LOOPED and not self.remat:
            return looped(self.form, rrdbs, x)
        block = partial(rrdb, self.form)
        block = jax.checkpoint(block) if self.remat else block
        for blocks in rrdbs:
            x = block(blocks, x)
        return x
