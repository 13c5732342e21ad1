"""E and D: a U-Net with attention that turns the stem and t into the network's output."""

from collections.abc import Mapping
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.attention import SelfAttention
from segdiff_jax.models.layers import Conv, Dtype, GroupNorm, ResBlock, Upsample
from segdiff_jax.models.time_embedding import TimeEmbedding


class UNet(nn.Module):
    """The stem [B, H, W, C] and t [B] to [B, H, W, 1] float32.

    Height and width must be multiples of 2^(levels - 1).

    Attributes:
      channels: C, the width of level 0.
      multipliers: width of each level in units of C; the first must be 1.
      blocks: residual blocks a level on the way down; one more on the way up.
      attention_factors: attend where the map is this many times smaller than the input.
      heads, groups, dropout: of every attention, norm and residual block.
      time_embedding, T: see `TimeEmbedding`; "none": t is not looked at.
      dtype: of activations; parameters, time, norms and the output head are float32.
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
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        stem: jax.Array,
        t: jax.Array | None,
        train: bool = False,
        additions: Mapping[int, jax.Array] | None = None,
    ) -> jax.Array:
        """Stem [B, H, W, c] of any width, t [B] or [1] int32 in 1..T -> [B, H, W, 1] float32.

        `additions` holds what joins after the k-th downsampling, by k from 1:
        [B or 1, H / 2^k, W / 2^k, width of level k - 1]. The skip at that place carries the sum.
        """
        res = partial(ResBlock, groups=self.groups, dropout=self.dropout, dtype=self.dtype)
        attend = partial(SelfAttention, self.heads, self.groups, self.dtype)
        time = None
        if self.time_embedding != "none":
            assert t is not None, "this network needs the time"
            time = TimeEmbedding(self.channels, self.time_embedding, self.T, name="time")(t)
        widths = [m * self.channels for m in self.multipliers]
        top = len(widths) - 1

        h = stem.astype(self.dtype)
        skips = [h]
        for level, width in enumerate(widths):
            for i in range(self.blocks):
                h = res(width, name=f"down{level}_res{i}")(h, time, train)
                if 2**level in self.attention_factors:
                    h = attend(name=f"down{level}_attend{i}")(h)
                skips.append(h)
            if level < top:
                h = Conv(width, stride=2, dtype=self.dtype, name=f"down{level}_shrink")(h)
                if additions and level + 1 in additions:
                    h = h + additions[level + 1].astype(self.dtype)
                skips.append(h)

        h = res(widths[-1], name="middle_res0")(h, time, train)
        h = attend(name="middle_attend")(h)
        h = res(widths[-1], name="middle_res1")(h, time, train)

        for level, width in reversed(list(enumerate(widths))):
            for i in range(self.blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = res(width, name=f"up{level}_res{i}")(h, time, train)
                if 2**level in self.attention_factors:
                    h = attend(name=f"up{level}_attend{i}")(h)
            if level > 0:
                h = Upsample(self.dtype, name=f"up{level}_grow")(h)
        assert not skips

        h = nn.silu(GroupNorm(self.groups, name="out_norm")(h.astype(jnp.float32)))
        return Conv(1, zero=True, name="out")(h)
