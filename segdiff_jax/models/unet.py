"""E and D: a U-Net with attention that maps the stem and t to the network's output."""

from collections.abc import Callable, Mapping
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from segdiff_jax.models.attention import SelfAttention
from segdiff_jax.models.layers import Conv, GroupNorm, ResBlock, Upsample
from segdiff_jax.models.time_embedding import TimeEmbedding


class UNet(nn.Module):
    """Maps the stem [B, H, W, C] and t [B] to [B, H, W, outputs] float32.

    Height and width must be multiples of 2^(levels - 1).

    Attributes:
      channels: C, the width of level 0.
      multipliers: width of each level in units of C; the first must be 1.
      blocks: residual blocks a level on the way down; one more on the way up.
      attention_factors: attend where the map is this many times smaller than the input.
      heads, groups, dropout: of every attention, norm and residual block.
      time_embedding, T: see `TimeEmbedding`; "none": t is ignored.
      dtype: of activations; parameters, time, norms and the output head are float32.
      remat: store only the input of each level for the backward pass, and recompute the rest there.
      outputs: channels of the result.
    """

    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention_factors: tuple[int, ...]
    heads: int
    groups: int
    dropout: float = 0.0
    time_embedding: str = "sinusoidal"
    T: int = 100
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    outputs: int = 1

    @nn.compact
    def __call__(
        self,
        stem: jax.Array,
        t: jax.Array | None,
        keys: jax.Array | None = None,
        additions: Mapping[int, jax.Array] | None = None,
    ) -> jax.Array:
        """Maps a stem [B, H, W, c] of any width and t [B] or [1] int32 in 1..T to the outputs.

        Args:
          stem: the conditioned input.
          t: may be None where `time_embedding` is "none".
          keys: [B], one a row, enable dropout.
          additions: maps [B or 1, H / 2^k, W / 2^k, width of level k - 1], by k from 1, added after
            the k-th downsampling. The skip connection of that map carries the sum.
        """
        time = None
        if self.time_embedding != "none":
            assert t is not None, "this network needs the time"
            time = TimeEmbedding(self.channels, self.time_embedding, self.T, name="time")(t)
        remat = nn.remat if self.remat else lambda function: function
        widths = [m * self.channels for m in self.multipliers]
        skips = [stem.astype(self.dtype)]
        for level, width in enumerate(widths):
            shrink = level < len(widths) - 1
            added = (additions or {}).get(level + 1)
            down = partial(UNet.down, level=level, width=width, shrink=shrink, keys=keys)
            skips += remat(down)(self, skips[-1], time, added)
        h = self.middle(skips[-1], time, keys)
        for level, width in reversed(list(enumerate(widths))):
            up = partial(UNet.up, level=level, width=width, keys=keys)
            count = self.blocks + 1
            skips, level_skips = skips[:-count], skips[-count:]
            h = remat(up)(self, h, time, level_skips)
        assert not skips
        h = GroupNorm(self.groups, silu=True, name="out_norm")(h.astype(jnp.float32))
        return Conv(self.outputs, zero=True, name="out")(h)

    def modules(self) -> tuple[Callable[..., ResBlock], Callable[..., SelfAttention]]:
        """Returns the constructors of a residual block and of an attention."""
        res = partial(ResBlock, groups=self.groups, dropout=self.dropout, dtype=self.dtype)
        return res, partial(SelfAttention, self.heads, self.groups, self.dtype)

    def down(
        self,
        h: jax.Array,
        time: jax.Array | None,
        added: jax.Array | None,
        *,
        level: int,
        width: int,
        shrink: bool,
        keys: jax.Array | None,
    ) -> list[jax.Array]:
        """Returns all maps of a level on the way down, the last being the next level's input."""
        res, attend = self.modules()
        maps = []
        for i in range(self.blocks):
            h = res(width, name=f"down{level}_res{i}")(h, time, keys)
            if 2**level in self.attention_factors:
                h = attend(name=f"down{level}_attend{i}")(h)
            maps.append(h)
        if shrink:
            h = Conv(width, stride=2, dtype=self.dtype, name=f"down{level}_shrink")(h)
            maps.append(h if added is None else h + added.astype(self.dtype))
        return maps

    def middle(self, h: jax.Array, time: jax.Array | None, keys: jax.Array | None) -> jax.Array:
        """Applies residual block, attention and residual block at the lowest level."""
        res, attend = self.modules()
        width = self.multipliers[-1] * self.channels
        h = res(width, name="middle_res0")(h, time, keys)
        h = attend(name="middle_attend")(h)
        return res(width, name="middle_res1")(h, time, keys)

    def up(
        self,
        h: jax.Array,
        time: jax.Array | None,
        skips: list[jax.Array],
        *,
        level: int,
        width: int,
        keys: jax.Array | None,
    ) -> jax.Array:
        """Concatenates the skips of a level, the last one first, on the way up."""
        res, attend = self.modules()
        for i, skip in enumerate(reversed(skips)):
            h = res(width, name=f"up{level}_res{i}")(jnp.concatenate([h, skip], -1), time, keys)
            if 2**level in self.attention_factors:
                h = attend(name=f"up{level}_attend{i}")(h)
        return Upsample(self.dtype, name=f"up{level}_grow")(h) if level else h
