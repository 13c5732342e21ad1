"""G, the image encoder: the residual-in-residual dense blocks of ESRGAN (arXiv 1809.00219).

How a dense block is computed depends on the device (`ops.dense_block`), so the modules of blocks
only declare parameters; functions compute with them.
"""

from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from segdiff_jax.models.layers import Conv
from segdiff_jax.models.ops.dense_block import SCANNED, dense_block
from segdiff_jax.models.ops.dense_block_reference import RESIDUAL, Weights, leaky_relu

DENSE_BLOCKS = 3  # of an RRDB
INNER_LAYERS = 4  # of a dense block, followed by one of the trunk's width


class DenseWeights(nn.Module):
    """Declares the parameters of a dense block: five convolutions, each of all maps before it."""

    features: int
    growth: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self) -> Weights:
        """Returns kernel and bias of each layer, of `dtype`."""
        weights: Weights = []
        for i, width in enumerate([*[self.growth] * INNER_LAYERS, self.features]):
            conv = Conv(width, name=f"conv{i + 1}")
            kernel, bias = conv.weights(self.features + i * self.growth)
            assert bias is not None
            weights.append((kernel.astype(self.dtype), bias.astype(self.dtype)))
        return weights


class RRDBWeights(nn.Module):
    """Declares the parameters of the three dense blocks of an RRDB."""

    features: int
    growth: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self) -> list[Weights]:
        """Returns the weights of each dense block, of `dtype`."""
        names = [f"dense{i + 1}" for i in range(DENSE_BLOCKS)]
        return [DenseWeights(self.features, self.growth, self.dtype, name=n)() for n in names]


def rrdb(form: str, blocks: list[Weights], x: jax.Array) -> jax.Array:
    """Computes three dense blocks and a residual around them: [B, H, W, C] -> [B, H, W, C]."""
    return RESIDUAL * reduce(lambda h, weights: dense_block(form, weights, h), blocks, x) + x


def scan_rrdbs(form: str, rrdbs: list[list[Weights]], x: jax.Array) -> jax.Array:
    """Computes all RRDBs as one `lax.scan` over dense blocks: [B, H, W, C] -> [B, H, W, C].

    The program holds one dense block instead of all: a CPU loads it faster, and needs less working
    memory.
    """

    def step(
        maps: tuple[jax.Array, jax.Array], block: tuple[Weights, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        (rrdb_input, h), (weights, last) = maps, block
        h = dense_block(form, weights, h)
        rrdb_output = RESIDUAL * h + rrdb_input  # where this dense block is the last of its RRDB
        return (jnp.where(last, rrdb_output, rrdb_input), jnp.where(last, rrdb_output, h)), None

    blocks = [weights for blocks in rrdbs for weights in blocks]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
    last = jnp.arange(len(blocks)) % DENSE_BLOCKS == DENSE_BLOCKS - 1
    return jax.lax.scan(step, (x, x), (stacked, last))[0][0]


class RRDBNet(nn.Module):
    """conv, `blocks` RRDBs and a conv inside one residual, conv, leaky ReLU, conv.

    Everything at full resolution; no normalisation, no time, no dropout (paper, section 4.3).

    Attributes:
      out: channels of the features.
      blocks: number of RRDBs.
      features: width of the trunk.
      growth: width that each inner layer of a dense block adds.
      dtype: of activations; parameters are float32.
      form: how dense blocks are computed, a key of `dense_block.FORMS`.
      remat: store only the input of each RRDB for the backward pass, and recompute the rest there.
    """

    out: int
    blocks: int
    features: int = 64
    growth: int = 32
    dtype: DTypeLike = jnp.float32
    form: str = "concat"
    remat: bool = False

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Maps a normalised image [B, H, W, 3] to [B, H, W, out]."""
        conv = partial(Conv, self.features, dtype=self.dtype)
        first = conv(name="first")(image)
        h = first + conv(name="trunk")(self.rrdbs(first))
        h = leaky_relu(conv(name="high")(h))
        return Conv(self.out, dtype=self.dtype, name="last")(h)

    def rrdbs(self, x: jax.Array) -> jax.Array:
        """Computes all RRDBs: [B, H, W, features] -> [B, H, W, features]."""
        names = [f"rrdb{i}" for i in range(self.blocks)]
        weights = [RRDBWeights(self.features, self.growth, self.dtype, name=n)() for n in names]
        if self.form in SCANNED and not self.remat:
            return scan_rrdbs(self.form, weights, x)
        block = partial(rrdb, self.form)
        block = jax.checkpoint(block) if self.remat else block
        return reduce(lambda x, blocks: block(blocks, x), weights, x)
