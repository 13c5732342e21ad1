"""The pieces every network is made of. NHWC; parameters are float32 whatever `dtype` is."""

import math
import zlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.init import Constant, by_inputs, parameter
from segdiff_jax.models.ops.conv import add_bias, convolve, convolve_pixels
from segdiff_jax.models.ops.group_norm import Dtype, normalised


class Conv(nn.Module):
    """A k x k convolution, `stride` 1 or 2, with k // 2 zeros on every side.

    The padding is explicit: at stride 2 "SAME" would pad on one side only and read other pixels.
    """

    features: int
    size: int = 3
    stride: int = 1
    zero: bool = False
    bias: bool = True
    dtype: Dtype = jnp.float32

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, features], rounded up."""
        y, bias = self.without_bias(x)
        return y if bias is None else add_bias(y, bias.astype(self.dtype))

    @nn.compact
    def without_bias(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Returns that without the bias, and the bias [features] float32, if it has one."""
        shape = self.size, self.size, x.shape[-1], self.features
        kernel, bias = Weights(shape, self.zero, self.bias, name="conv")()
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.size == 1 and self.stride == 1:
            y = convolve_pixels(x, kernel)
        else:
            half = self.size // 2
            pads = ((half, half), (half, half))
            y = convolve(x, kernel, pads, self.stride)
        return y, bias


class ConvWeights(nn.Module):
    """The parameters of a 3 x 3 `Conv`, under the same names, for those who convolve otherwise."""

    inputs: int
    features: int

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """-> kernel [3, 3, inputs, features] and bias [features], float32."""
        kernel, bias = Weights((3, 3, self.inputs, self.features), name="conv")()
        assert bias is not None
        return kernel, bias


class Weights(nn.Module):
    """Kernel [h, w, inputs, features] and bias [features] of a convolution, float32."""

    shape: tuple[int, int, int, int]
    zero: bool = False
    bias: bool = True

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array | None]:
        """-> kernel, and the bias or None."""
        *field, features = self.shape
        start = by_inputs(math.prod(field), self.zero)
        kernel = parameter(self, "kernel", start, self.shape)
        if not self.bias:
            return kernel, None
        return kernel, parameter(self, "bias", start, (features,))


class Linear(nn.Module):
    """A dense layer on the last axis with PyTorch's default initialisation."""

    features: int
    zero: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] -> [..., features]."""
        return Dense(self.features, self.zero, self.dtype, name="dense")(x)


class Dense(nn.Module):
    """The product and the parameters of `Linear`, under the names that linen's layer has."""

    features: int
    zero: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] -> [..., features]."""
        start = by_inputs(x.shape[-1], self.zero)
        kernel = parameter(self, "kernel", start, (x.shape[-1], self.features))
        bias = parameter(self, "bias", start, (self.features,))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = jax.lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))
        return y + bias.astype(self.dtype)


class Dropout(nn.Module):
    """Drops values with a probability; what is dropped of a row depends on its own key alone."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """x [B, ...], keys [B] or None: nothing is dropped -> [B, ...]."""
        if keys is None or not self.rate:
            return x
        here = zlib.crc32("/".join(self.path).encode())  # other layers drop other values

        def kept(key: jax.Array) -> jax.Array:
            return jax.random.bernoulli(jax.random.fold_in(key, here), 1 - self.rate, x.shape[1:])

        return jnp.where(jax.vmap(kept)(keys), x / (1 - self.rate), 0)


class ResBlock(nn.Module):
    """norm, SiLU, conv, + time, norm, SiLU, dropout, conv, + skip; None: no time, no dropout."""

    features: int
    groups: int
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.Array | None, keys: jax.Array | None = None
    ) -> jax.Array:
        """x [B, H, W, C], time [B or 1, D] float32, keys [B] -> [B, H, W, features]."""
        conv = partial(Conv, self.features, dtype=self.dtype)
        norm = partial(GroupNorm, self.groups, self.dtype, silu=True)
        h, shift = conv(name="conv1").without_bias(norm(name="norm1")(x))
        assert shift is not None
        shift = shift[None]
        if time is not None:
            shift = shift + Linear(self.features, name="time")(nn.silu(time))  # [B or 1, features]
        h = norm(name="norm2")(h, shift)
        h = Dropout(self.dropout, name="dropout")(h, keys)
        h = conv(zero=True, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = conv(size=1, name="skip")(x)
        return x + h


class GroupNorm(nn.Module):
    """Normalisation over (pixels, channels of a group), in float32, epsilon 1e-5.

    With one channel a group it takes out each channel's mean, and with it an added time vector:
    such a block does not know t.

    Attributes:
      groups: so many; channels must be a multiple of them.
      dtype: of the result.
      silu: SiLU of what is normalised, also in float32.
    """

    groups: int
    dtype: Dtype = jnp.float32
    silu: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, shift: jax.Array | None = None) -> jax.Array:
        """[B, H, W, C] and what is added to it first, [B or 1, C] float32 -> [B, H, W, C]."""
        C = x.shape[-1]
        scale = parameter(self, "scale", Constant(1.0), (C,))
        bias = parameter(self, "bias", Constant(0.0), (C,))
        return normalised(x, shift, scale, bias, self.groups, self.silu, self.dtype)
