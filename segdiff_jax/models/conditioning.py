"""F, the mask encoder, and the ways to combine F(x_t) with the image's features G(I).

Every conditioning maps (x_t [B, H, W, K], features [B or 1, h, w, c]) to the inputs of the U-Net:
the stem [B, H, W, c'], and the additions {k: [B or 1, H / 2^k, W / 2^k, c"]} that are added after
its k-th downsampling. `Sum` is the method; `Concat`, `Stack` and `Inject` are variants of its
ablation (paper, Table 4). `Encoded` and `Plain` belong to networks without a mask as input: they
ignore x_t, which may be None.

F may see x_t at several scales (`scales`): besides x_t its sums over squares of odd sides, each
divided by the side. The noise of such a sum has unit variance as that of x_t, and the signal of an
object that fills the square is larger by the side, so that F is shown at large t already whether a
whole object is there.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from segdiff_jax.models.layers import Conv

Conditioned = tuple[jax.Array, dict[int, jax.Array]]


class Conditioning(nn.Module):
    """Maps x_t and features to a stem of `channels` and additions; contains F.

    Attributes:
      channels: width of the stem.
      dtype: of the stem.
      scales: sides of the squares of x_t that F sees, odd; (1,): the paper's F.
    """

    channels: int
    dtype: DTypeLike = jnp.float32
    scales: tuple[int, ...] = (1,)

    def convolve(self, x: jax.Array) -> jax.Array:
        """Applies F, a 3 x 3 convolution: [B, H, W, c] -> [B, H, W, channels]."""
        return Conv(self.channels, dtype=self.dtype, name="F")(x)

    def at_scales(self, x_t: jax.Array) -> jax.Array:
        """Maps x_t [B, H, W, K] to its normalised sums at every scale, [B, H, W, scales K]."""
        if self.scales == (1,):
            return x_t
        return jnp.concatenate([_normalised_sum(x_t, side) for side in self.scales], axis=-1)


class Sum(Conditioning):
    """Adds F(x_t) + G(I), the method of the paper (eq. 17)."""

    @nn.compact
    def __call__(self, x_t: jax.Array, features: jax.Array) -> Conditioned:
        """Maps x_t [B, H, W, K], features [B or 1, H, W, channels] to stem [B, H, W, channels]."""
        return self.convolve(self.at_scales(x_t)) + features, {}


class Concat(Conditioning):
    """Concatenates F(x_t) and G(I): variant one."""

    @nn.compact
    def __call__(self, x_t: jax.Array, features: jax.Array) -> Conditioned:
        """Maps x_t [B, H, W, K], features [B or 1, H, W, c] to stem [B, H, W, channels + c]."""
        return _concatenate(self.convolve(self.at_scales(x_t)), features), {}


class Stack(Conditioning):
    """Applies F to x_t and the image itself, concatenated, without an encoder: variant three."""

    @nn.compact
    def __call__(self, x_t: jax.Array, image: jax.Array) -> Conditioned:
        """Maps x_t [B, H, W, K], image [B or 1, H, W, 3] to stem [B, H, W, channels]."""
        return self.convolve(_concatenate(self.at_scales(x_t), image)), {}


class Inject(Conditioning):
    """Passes F(x_t) alone, and adds G(I) after the k-th downsampling: variants four to six.

    The features come from `Downsampled`, computed once for an image.
    """

    after: int = 1

    @nn.compact
    def __call__(self, x_t: jax.Array, features: jax.Array) -> Conditioned:
        """Maps x_t [B, H, W, K], features [B or 1, H / 2^k, W / 2^k, c] to stem, {k: features}."""
        return self.convolve(self.at_scales(x_t)), {self.after: features}


class Encoded(Conditioning):
    """Passes G(I) alone: the conditioning of the deterministic twin."""

    def __call__(self, x_t: jax.Array | None, features: jax.Array) -> Conditioned:
        """Returns the features [B, H, W, channels] as the stem."""
        return features, {}


class Plain(Conditioning):
    """Convolves the image alone: the conditioning of a U-Net without G."""

    @nn.compact
    def __call__(self, x_t: jax.Array | None, image: jax.Array) -> Conditioned:
        """Maps an image [B, H, W, 3] to a stem of [B, H, W, channels]."""
        return self.convolve(image), {}


class Downsampled(nn.Module):
    """Downsamples G(I) by a chain of convolutions of stride 2 without activations.

    The paper names one such layer (section 5, ablation study), which fits the first downsampling;
    the third and the fifth take three and five of them. They do not depend on x_t, and so run once
    for an image.
    """

    encoder: nn.Module
    widths: tuple[int, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Maps [B, H, W, 3] to [B, H / 2^k, W / 2^k, widths[-1]] for k widths."""
        h = self.encoder(image)
        for i, width in enumerate(self.widths):
            h = Conv(width, stride=2, dtype=self.dtype, name=f"shrink{i}")(h)
        return h


def _normalised_sum(x: jax.Array, side: int) -> jax.Array:
    """Returns the sums of x [B, H, W, K] over squares around each pixel, divided by their side.

    Beyond the border x counts as zero.
    """
    if side == 1:
        return x
    window = (1, side, side, 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1, 1, 1, 1), "SAME") / side


def _concatenate(x: jax.Array, image: jax.Array) -> jax.Array:
    """Concatenates channels: [B, H, W, c] and [B or 1, H, W, d] -> [B, H, W, c + d]."""
    rows = jnp.broadcast_to(image, (x.shape[0], *image.shape[1:]))
    return jnp.concatenate([x, rows.astype(x.dtype)], axis=-1)
