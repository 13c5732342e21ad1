"""The pieces every network is made of. NHWC; parameters are float32 whatever `dtype` is."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Initializer = Callable[..., jax.Array]
Dtype = Any  # jnp.float32 or jnp.bfloat16

# U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default, which the authors train from
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
zeros = nn.initializers.zeros_init()

EPSILON = 1e-5  # PyTorch's, where linen has 1e-6


def bias_init(fan_in: int) -> Initializer:
    """Returns U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for a bias."""
    bound = 1 / np.sqrt(fan_in)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Module):
    """A k x k convolution, `stride` 1 or 2, with k // 2 zeros on every side.

    The padding is explicit: at stride 2 "SAME" would pad on one side only and read other pixels.
    """

    features: int
    size: int = 3
    stride: int = 1
    zero: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, features]."""
        fan_in = self.size**2 * x.shape[-1]
        return nn.Conv(
            self.features,
            (self.size, self.size),
            strides=self.stride,
            padding=self.size // 2,
            dtype=self.dtype,
            kernel_init=zeros if self.zero else kernel_init,
            bias_init=zeros if self.zero else bias_init(fan_in),
            name="conv",
        )(x)


class Linear(nn.Module):
    """A dense layer on the last axis with PyTorch's default initialisation."""

    features: int
    zero: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] -> [..., features]."""
        return nn.Dense(
            self.features,
            dtype=self.dtype,
            kernel_init=zeros if self.zero else kernel_init,
            bias_init=zeros if self.zero else bias_init(x.shape[-1]),
            name="dense",
        )(x)


class GroupNorm(nn.Module):
    """Normalisation over (pixels, channels of a group), in float32, epsilon 1e-5.

    With one channel a group it takes out each channel's mean, and with it an added time vector:
    such a block does not know t.
    """

    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]; C must be a multiple of groups."""
        C = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (C,))
        bias = self.param("bias", zeros, (C,))
        x = x.astype(jnp.float32)
        # two passes: E[x^2] - E[x]^2 loses digits that the exactness tests look at
        centred = x - group_mean(x, self.groups)
        variance = group_mean(jnp.square(centred), self.groups)
        return (centred * (jax.lax.rsqrt(variance + EPSILON) * scale) + bias).astype(self.dtype)


def group_mean(x: jax.Array, groups: int) -> jax.Array:
    """The mean over pixels and the channels of each group: [B, H, W, C] -> [B, 1, 1, C] float32.

    The pixels are summed by a product with ones: XLA's CPU reductions add in an order that depends
    on B, so that a sample would depend on what it is batched with; its products do not. They are
    faster too.
    """
    B, H, W, C = x.shape
    ones = jnp.ones((1, H * W))
    pixels = x.reshape(B, H * W, C)
    sums = jnp.einsum("op,bpc->boc", ones, pixels, precision=jax.lax.Precision.HIGHEST)
    means = sums.reshape(B, groups, C // groups).sum(-1, keepdims=True) / (H * W * C // groups)
    return jnp.broadcast_to(means, (B, groups, C // groups)).reshape(B, 1, 1, C)


class ResBlock(nn.Module):
    """norm, SiLU, conv, + time, norm, SiLU, dropout, conv, + skip."""

    features: int
    groups: int
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, time: jax.Array, train: bool = False) -> jax.Array:
        """x [B, H, W, C], time [B or 1, D] float32 -> [B, H, W, features]."""
        conv = partial(Conv, self.features, dtype=self.dtype)
        norm = partial(GroupNorm, self.groups, self.dtype)
        h = conv(name="conv1")(nn.silu(norm(name="norm1")(x)))
        shift = Linear(self.features, name="time")(nn.silu(time))  # [B or 1, features]
        h = h + shift[:, None, None, :].astype(self.dtype)
        h = nn.silu(norm(name="norm2")(h))
        h = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(h)
        h = conv(zero=True, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = conv(size=1, name="skip")(x)
        return x + h


class SelfAttention(nn.Module):
    """Attention of every pixel to every pixel, with a residual around it.

    The 3C channels of `qkv` are head-major: for each head its query, key and value in turn.
    """

    heads: int
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]; C must be a multiple of heads."""
        B, H, W, C = x.shape
        h = GroupNorm(self.groups, self.dtype, name="norm")(x).reshape(B, H * W, C)
        qkv = Linear(3 * C, dtype=self.dtype, name="qkv")(h)
        qkv = qkv.reshape(B, H * W, self.heads, 3, C // self.heads)
        q, k, v = (jnp.swapaxes(qkv[:, :, :, i], 1, 2) for i in range(3))  # [B, heads, L, depth]
        scale = (C // self.heads) ** -0.25
        logits = jnp.einsum("bhld,bhmd->bhlm", q * scale, k * scale)
        weights = softmax(logits.astype(jnp.float32)).astype(self.dtype)
        h = jnp.einsum("bhlm,bhmd->bhld", weights, v)
        h = jnp.swapaxes(h, 1, 2).reshape(B, H * W, C)
        h = Linear(C, zero=True, dtype=self.dtype, name="out")(h)
        return x + h.reshape(B, H, W, C)


def softmax(logits: jax.Array) -> jax.Array:
    """Softmax over the last axis; sums by a product with ones, for the reason of `group_mean`."""
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    ones = jnp.ones((logits.shape[-1], 1))
    return weights / jnp.matmul(weights, ones, precision=jax.lax.Precision.HIGHEST)


class Upsample(nn.Module):
    """Doubles height and width by repeating pixels, then a 3 x 3 convolution."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, 2H, 2W, C]."""
        B, H, W, C = x.shape
        x = jnp.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C))
        return Conv(C, dtype=self.dtype, name="conv")(x.reshape(B, 2 * H, 2 * W, C))


def sinusoid(t: jax.Array, channels: int) -> jax.Array:
    """Returns [..., channels] float32: cosines first, then sines, of t / 10000^(i / half)."""
    half = channels // 2
    frequencies = jnp.asarray(np.exp(-np.log(10_000) * np.arange(half) / half), jnp.float32)
    angles = t[..., None].astype(jnp.float32) * frequencies
    embedding = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return jnp.pad(embedding, [(0, 0)] * (embedding.ndim - 1) + [(0, channels % 2)])


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
            return nn.Embed(self.T, 4 * self.channels, name="table")(t)
        h = Linear(4 * self.channels, name="linear1")(sinusoid(t, self.channels))
        return Linear(4 * self.channels, name="linear2")(nn.silu(h))
