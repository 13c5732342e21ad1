"""The pieces every network is made of. NHWC; parameters are float32 whatever `dtype` is."""

import math
import zlib
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segdiff_jax.models.convolution import convolve, convolve_pixels
from segdiff_jax.models.initial import Constant, by_inputs, parameter

Dtype = Any  # jnp.float32 or jnp.bfloat16

EPSILON = 1e-5  # PyTorch's, where linen has 1e-6


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

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, features], rounded up."""
        shape = self.size, self.size, x.shape[-1], self.features
        kernel, bias = Weights(shape, self.zero, self.bias, name="conv")()
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.size == 1 and self.stride == 1:
            y = convolve_pixels(x, kernel)
        else:
            half = self.size // 2
            y = convolve(x, kernel, ((half, half), (half, half)), self.stride)
        return y if bias is None else y + bias.astype(self.dtype)


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
        scale = parameter(self, "scale", Constant(1.0), (C,))
        bias = parameter(self, "bias", Constant(0.0), (C,))
        return normalised(x, scale, bias, self.groups).astype(self.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalised(x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int) -> jax.Array:
    return _normalised_forward(x, scale, bias, groups)[0]


@partial(jax.jit, static_argnums=3)  # traced once for all norms of one shape
def normalised(x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int) -> jax.Array:
    """Returns (x - mean) / sqrt(variance + 1e-5) * scale + bias, both over (pixels, a group).

    Its gradient is written out: derived step by step it is twice as many operations, and passes
    over the maps. What the gradient keeps of x has x's own precision.

    Args:
      x: [B, H, W, C].
      scale: [C] float32.
      bias: [C] float32.
      groups: of C / groups channels each.

    Returns:
      [B, H, W, C] float32.
    """
    return _normalised(x, scale, bias, groups)


def _normalised_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    # two passes: E[x^2] - E[x]^2 loses digits that the exactness tests look at
    mean = group_mean(x.astype(jnp.float32), groups)
    centred = x.astype(jnp.float32) - mean
    inverse = jax.lax.rsqrt(group_mean(jnp.square(centred), groups) + EPSILON)  # [B, 1, 1, C]
    return centred * (inverse * scale) + bias, (x, scale, mean, inverse)


def _normalised_backward(
    groups: int, kept: tuple[jax.Array, ...], dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, inverse = kept
    unit = (x.astype(jnp.float32) - mean) * inverse
    dbias, dscale = pixel_sums(dy), pixel_sums(dy * unit)  # [B, 1, 1, C]
    pixels = x.shape[1] * x.shape[2]
    # what a change of x does through the mean, and through the variance
    through = [channel_means(d * scale, groups) / pixels for d in (dbias, dscale)]
    dx = inverse * (dy * scale - through[0] - unit * through[1])
    return dx.astype(x.dtype), dscale.sum((0, 1, 2)), dbias.sum((0, 1, 2))


_normalised.defvjp(_normalised_forward, _normalised_backward)


def group_mean(x: jax.Array, groups: int) -> jax.Array:
    """The mean over pixels and the channels of each group: [B, H, W, C] -> [B, 1, 1, C] float32."""
    return channel_means(pixel_sums(x), groups) / (x.shape[1] * x.shape[2])


def pixel_sums(x: jax.Array) -> jax.Array:
    """The sum over pixels: [B, H, W, C] -> [B, 1, 1, C].

    On a CPU over rows first, which are long: a loop over pixels of a few channels is slower.
    """
    if jax.default_backend() != "cpu":
        return x.sum((1, 2), keepdims=True)
    B, H, W, C = x.shape
    rows = x.reshape(B, H, W * C).sum(1)
    return rows.reshape(B, W, C).sum(1).reshape(B, 1, 1, C)


def channel_means(x: jax.Array, groups: int) -> jax.Array:
    """The mean over the channels of each group, in the place of each: [B, 1, 1, C] -> the same.

    By additions, which a compiler fuses with what is around them: a reduction would be a program of
    XLA's CPU library, of which a network has hundreds, for two to four numbers each.
    """
    B, C = x.shape[0], x.shape[-1]
    if groups == C:
        return x
    n = C // groups
    means = sum_by_halves(x.reshape(B, groups, n)) / n
    return jnp.broadcast_to(means, (B, groups, n)).reshape(B, 1, 1, C)


def sum_by_halves(x: jax.Array) -> jax.Array:
    """The sum over a last axis, kept with length 1; the order depends on its length alone."""
    while (n := x.shape[-1]) > 1:
        half = (n + 1) // 2
        rest = jnp.pad(x[..., half:], [(0, 0)] * (x.ndim - 1) + [(0, 2 * half - n)])
        x = x[..., :half] + rest
    return x


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
        norm = partial(GroupNorm, self.groups, self.dtype)
        h = conv(name="conv1")(nn.silu(norm(name="norm1")(x)))
        if time is not None:
            shift = Linear(self.features, name="time")(nn.silu(time))  # [B or 1, features]
            h = h + shift[:, None, None, :].astype(self.dtype)
        h = nn.silu(norm(name="norm2")(h))
        h = Dropout(self.dropout, name="dropout")(h, keys)
        h = conv(zero=True, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = conv(size=1, name="skip")(x)
        return x + h
