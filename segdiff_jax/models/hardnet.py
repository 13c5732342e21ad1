"""G of variant two: FC-HarDNet-70, a U-Net of harmonic dense blocks at a quarter of the size.

Chao et al., "HarDNet: A Low Memory Traffic Network" (arXiv 1909.00948), describe the blocks; the
segmentation network of 70 layers is in the public code of its authors, PingoLH/FCHarDNet. Their
"V2" is the same function with the same number of parameters, computed with fewer copies in memory
(issue 33 there), so one network represents both.

With their head for 19 classes it has 4,119,257 parameters; the published figure is 4.1 million.
Without the head it has 4,118,326; with our last convolution to 128 channels, 4,173,750.

Differences:
  * GroupNorm of one group replaces BatchNorm, with as many parameters. Statistics of a batch would
    be state besides the weights, to be averaged, saved and gathered from all devices, and a mask
    would depend on the rest of its batch. One group, because some widths are odd.
  * Bilinear resizing uses half-pixel centres, as everywhere in this library; theirs aligns corners.
  * The last block is resized to full size before one convolution to the width of the stem; theirs
    computes the classes first.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from segdiff_jax.models.layers import Conv, GroupNorm

STRIDE = 4  # of the first convolutions together; all blocks work at this or a smaller size
MULTIPLIER = 1.7  # of a layer's width, for every link beyond its first


def links(layer: int) -> list[int]:
    """Returns the layers that layer 1, 2, .. of a block reads; 0 is the block's input.

    Layer l reads layer l - 2^i wherever 2^i divides l.
    """
    return [layer - 2**i for i in range(layer.bit_length()) if layer % 2**i == 0]


def layer_width(layer: int, growth: int) -> int:
    """Returns growth * 1.7^(links - 1), to the nearest even number."""
    return 2 * int((growth * MULTIPLIER ** (len(links(layer)) - 1) + 1) // 2)


class ConvNorm(nn.Module):
    """A convolution without bias, norm, ReLU."""

    features: int
    size: int = 3
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, features], rounded up."""
        conv = partial(Conv, self.features, self.size, self.stride, bias=False, dtype=self.dtype)
        return nn.relu(GroupNorm(1, self.dtype, name="norm")(conv(name="conv")(x)))


class HarDBlock(nn.Module):
    """Layers that read each other by `links`; the output is the odd layers and the last."""

    growth: int
    layers: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, sum of the widths of the output's layers]."""
        maps = [x]
        for i in range(1, self.layers + 1):
            inputs = jnp.concatenate([maps[j] for j in links(i)], axis=-1)
            width = layer_width(i, self.growth)
            maps.append(ConvNorm(width, dtype=self.dtype, name=f"layer{i}")(inputs))
        return jnp.concatenate(maps[1:-1:2] + maps[-1:], axis=-1)


class HarDNet(nn.Module):
    """Four convolutions to a quarter of the size, blocks down, blocks up, resize, conv.

    Attributes:
      out: width of the result.
      first: widths of the four convolutions; the first and the third halve the size.
      growths, layers: of each block, from fine to coarse, the same on the way down and up.
      widths: outputs of the 1 x 1 convolution after each block on the way down.
      dtype: of activations.
    """

    out: int
    first: tuple[int, int, int, int] = (16, 24, 32, 48)
    growths: tuple[int, ...] = (10, 16, 18, 24, 32)
    layers: tuple[int, ...] = (4, 4, 8, 8, 8)
    widths: tuple[int, ...] = (64, 96, 160, 224, 320)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Maps a normalised image [B, H, W, 3] to [B, H, W, out].

        Height and width must be multiples of 4. Halves of odd sides are rounded up; with multiples
        of 64 there are none.
        """
        conv = partial(ConvNorm, dtype=self.dtype)
        block = partial(HarDBlock, dtype=self.dtype)
        h = image
        for i, width in enumerate(self.first):
            h = conv(width, stride=2 - i % 2, name=f"first{i}")(h)
        skips = []
        levels = zip(self.growths, self.layers, self.widths, strict=True)
        for i, (growth, layers, width) in enumerate(levels):
            h = halve(h) if i else h
            h = block(growth, layers, name=f"down{i}")(h)
            skips.append(h)
            h = conv(width, size=1, name=f"down{i}_width")(h)
        skips.pop()  # of the coarsest block, from which h is computed
        for i, skip in reversed(list(enumerate(skips))):
            h = jnp.concatenate([resize(h, skip.shape), skip], axis=-1)
            h = conv(h.shape[-1] // 2, size=1, name=f"up{i}_width")(h)
            h = block(self.growths[i], self.layers[i], name=f"up{i}")(h)
        return Conv(self.out, dtype=self.dtype, name="last")(resize(h, image.shape))


def halve(x: jax.Array) -> jax.Array:
    """Averages 2 x 2 pixels: [B, H, W, C] -> [B, H / 2, W / 2, C]; odd edges are repeated."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    rows = x[:, ::2] + x[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]) / 4


def resize(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Resizes [B, h, w, C] to [B, H, W, C] of a shape (any, H, W, any), bilinearly."""
    return jax.image.resize(x, (x.shape[0], *shape[1:3], x.shape[3]), "bilinear", antialias=False)
