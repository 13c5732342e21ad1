"""Layers that all networks share. NHWC; parameters are float32 whatever `dtype` is."""

import math
import zlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from segdiff_jax.models.init import Constant, fan_in_uniform, parameter
from segdiff_jax.models.ops.conv import add_bias, conv2d
from segdiff_jax.models.ops.group_norm import group_norm
from segdiff_jax.models.ops.upsample import upsample


class Weights(nn.Module):
    """Declares kernel [..., inputs, features] and bias [features] of a layer, float32.

    Attributes:
      shape: of the kernel; its product without the last axis is the fan-in.
      zero: initialise both with zero.
      bias: declare a bias.
    """

    shape: tuple[int, ...]
    zero: bool = False
    bias: bool = True

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array | None]:
        """Returns kernel, and the bias or None."""
        *inputs, features = self.shape
        initial = fan_in_uniform(math.prod(inputs), self.zero)
        kernel = parameter(self, "kernel", initial, self.shape)
        return kernel, parameter(self, "bias", initial, (features,)) if self.bias else None


class Conv(nn.Module):
    """A k x k convolution, `stride` 1 or 2, with k // 2 zeros on every side.

    The padding is explicit: at stride 2 "SAME" would pad on one side only and read other pixels.
    """

    features: int
    size: int = 3
    stride: int = 1
    zero: bool = False
    bias: bool = True
    dtype: DTypeLike = jnp.float32

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, features], rounded up."""
        kernel, bias = self.weights(x.shape[-1])
        half = self.size // 2
        pads = ((half, half), (half, half))
        y = conv2d(x.astype(self.dtype), kernel.astype(self.dtype), pads, self.stride)
        return y if bias is None else add_bias(y, bias.astype(self.dtype))

    @nn.compact
    def weights(self, inputs: int) -> tuple[jax.Array, jax.Array | None]:
        """Returns kernel [size, size, inputs, features] and bias [features] or None, float32."""
        shape = self.size, self.size, inputs, self.features
        return Weights(shape, self.zero, self.bias, name="conv")()


class Upsample(nn.Module):
    """Doubles height and width by repeating pixels, followed by a 3 x 3 convolution."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, 2H, 2W, C]."""
        C = x.shape[-1]
        kernel, bias = Conv(C, name="conv").weights(C)
        assert bias is not None
        return upsample(x.astype(self.dtype), kernel) + bias.astype(self.dtype)


class Linear(nn.Module):
    """A dense layer on the last axis with PyTorch's default initialisation."""

    features: int
    zero: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., C] to [..., features]."""
        kernel, bias = Weights((x.shape[-1], self.features), self.zero, name="dense")()
        assert bias is not None
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = jax.lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))
        return y + bias.astype(self.dtype)


class GroupNorm(nn.Module):
    """Normalises over (pixels, channels of a group), in float32, epsilon 1e-5.

    With one channel a group it removes each channel's mean, and with it an added time vector: such
    a block does not depend on t.

    Attributes:
      groups: number of groups; channels must be a multiple of it.
      dtype: of the result.
      silu: apply SiLU to the result, also in float32.
    """

    groups: int
    dtype: DTypeLike = jnp.float32
    silu: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, shift: jax.Array | None = None) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, C]; shift [B or 1, C] float32 is added to x first."""
        C = x.shape[-1]
        scale = parameter(self, "scale", Constant(1.0), (C,))
        bias = parameter(self, "bias", Constant(0.0), (C,))
        return group_norm(x, shift, scale, bias, self.groups, self.silu, self.dtype)


class Dropout(nn.Module):
    """Drops values with a probability; the mask of a row depends on its own key alone."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Maps x [B, ...] with keys [B], or None for no dropout, to [B, ...]."""
        if keys is None or not self.rate:
            return x
        layer = zlib.crc32("/".join(self.path).encode())  # other layers drop other values

        def keep_mask(key: jax.Array) -> jax.Array:
            return jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - self.rate, x.shape[1:])

        return jnp.where(jax.vmap(keep_mask)(keys), x / (1 - self.rate), 0)


class ResBlock(nn.Module):
    """norm, SiLU, conv, + time, norm, SiLU, dropout, conv, + skip."""

    features: int
    groups: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.Array | None, keys: jax.Array | None = None
    ) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H, W, features].

        Time is [B or 1, D] float32 or None; keys [B] enable dropout.
        """
        conv = partial(Conv, self.features, dtype=self.dtype)
        norm = partial(GroupNorm, self.groups, self.dtype, silu=True)
        h = conv(name="conv1")(norm(name="norm1")(x))
        shift = None if time is None else Linear(self.features, name="time")(nn.silu(time))
        h = norm(name="norm2")(h, shift)
        h = conv(zero=True, name="conv2")(Dropout(self.dropout, name="dropout")(h, keys))
        if x.shape[-1] != self.features:
            x = conv(size=1, name="skip")(x)
        return x + h
