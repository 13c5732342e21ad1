"""F, the mask encoder, and how it meets the image's features G(I).

Every conditioning maps (x_t [B, H, W, 1], features [B or 1, h, w, c]) to what the U-Net takes: the
stem [B, H, W, c'] that enters it, and the additions {k: [B or 1, H / 2^k, W / 2^k, c"]} that join
after its k-th downsampling. `Sum` is the method; `Concat`, `Stack` and `Inject` are variants of its
ablation (paper, Table 4). `Encoded` and `Plain` belong to networks that see no mask: they ignore
x_t, which may be None.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.layers import Conv
from segdiff_jax.models.ops.group_norm import Dtype

Conditioned = tuple[jax.Array, dict[int, jax.Array]]


class Sum(nn.Module):
    """F(x_t) + G(I), the paper's (eq. 17)."""

    channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_t: jax.Array, features: jax.Array) -> Conditioned:
        """x_t [B, H, W, 1], features [B or 1, H, W, channels] -> stem [B, H, W, channels]."""
        return Conv(self.channels, dtype=self.dtype, name="F")(x_t) + features, {}


class Concat(nn.Module):
    """F(x_t) and G(I) side by side: variant one."""

    channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_t: jax.Array, features: jax.Array) -> Conditioned:
        """x_t [B, H, W, 1], features [B or 1, H, W, c] -> stem [B, H, W, channels + c]."""
        mask = Conv(self.channels, dtype=self.dtype, name="F")(x_t)
        return _side_by_side(mask, features), {}


class Stack(nn.Module):
    """F of x_t and the image itself side by side, without an encoder: variant three."""

    channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_t: jax.Array, image: jax.Array) -> Conditioned:
        """x_t [B, H, W, 1], image [B or 1, H, W, 3] -> stem [B, H, W, channels]."""
        stem = Conv(self.channels, dtype=self.dtype, name="F")(_side_by_side(x_t, image))
        return stem, {}


class Inject(nn.Module):
    """F(x_t) alone enters; G(I) joins after the k-th downsampling: variants four to six.

    Of the features nothing else is needed, so they come from `Downsampled`, once for an image.
    """

    channels: int
    after: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_t: jax.Array, features: jax.Array) -> Conditioned:
        """x_t [B, H, W, 1], features [B or 1, H / 2^k, W / 2^k, c] -> stem, {k: features}."""
        stem = Conv(self.channels, dtype=self.dtype, name="F")(x_t)
        return stem, {self.after: features}


class Encoded(nn.Module):
    """G(I) alone: the network of the deterministic twin."""

    channels: int
    dtype: Dtype = jnp.float32

    def __call__(self, x_t: jax.Array | None, features: jax.Array) -> Conditioned:
        """Features [B, H, W, channels] -> stem [B, H, W, channels]."""
        return features, {}


class Plain(nn.Module):
    """A convolution of the image alone: a U-Net without G."""

    channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_t: jax.Array | None, image: jax.Array) -> Conditioned:
        """Image [B, H, W, 3] -> stem [B, H, W, channels]."""
        stem = Conv(self.channels, dtype=self.dtype, name="F")(image)
        return stem, {}


class Downsampled(nn.Module):
    """G(I), halved by one convolution of stride 2 after another, without anything between them.

    The paper names one such layer (section 5, ablation study), which fits the first downsampling;
    the third and the fifth take three and five of them. None knows x_t: they run once for an image.
    """

    encoder: nn.Module
    widths: tuple[int, ...]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """[B, H, W, 3] -> [B, H / 2^k, W / 2^k, widths[-1]], where k is the number of widths."""
        h = self.encoder(image)
        for i, width in enumerate(self.widths):
            h = Conv(width, stride=2, dtype=self.dtype, name=f"shrink{i}")(h)
        return h


def _side_by_side(x: jax.Array, image: jax.Array) -> jax.Array:
    """[B, H, W, c] and [B or 1, H, W, d] -> [B, H, W, c + d]."""
    same = jnp.broadcast_to(image, (x.shape[0], *image.shape[1:]))
    return jnp.concatenate([x, same.astype(x.dtype)], axis=-1)
