"""Augments one training example at random, in JAX, on the device; mapped over rows by `jax.vmap`.

Image and mask go through one function, so they move together by construction. The operations are
those of torchvision 0.10 on PIL images, without its rounding to bytes between them. An operation of
zero strength is the identity and costs nothing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

# (key, image [H, W, C] float32 in 0..255, mask [H, W] uint8 in {0, 1}) -> (image, mask)
Augment = Callable[[Array, Array, Array], tuple[Array, Array]]

LUMA = (0.299, 0.587, 0.114)  # of R, G, B: ITU-R 601, as PIL converts
BRIGHTNESS, CONTRAST, SATURATION = 0, 1, 2  # kinds of `blend`


def identity(key: Array, image: Array, mask: Array) -> tuple[Array, Array]:
    """Returns the image and the mask unchanged."""
    del key
    return image, mask


def chain(*augments: Augment) -> Augment:
    """Returns the augmentation that applies these in order, each under its own key."""

    def augment(key: Array, image: Array, mask: Array) -> tuple[Array, Array]:
        for i, each in enumerate(augments):
            image, mask = each(jax.random.fold_in(key, i), image, mask)
            # On a CPU, XLA would else fuse an operation into each consumer and recompute it there.
            image, mask = jax.lax.optimization_barrier((image, mask))
        return image, mask

    return augment


def flip(horizontal: bool, vertical: bool) -> Augment:
    """Returns random mirroring, left to right and top to bottom, each with probability 1/2."""
    if not (horizontal or vertical):
        return identity

    def augment(key: Array, image: Array, mask: Array) -> tuple[Array, Array]:
        coins = jax.random.bernoulli(key, shape=(2,))
        for axis, enabled in ((1, horizontal), (0, vertical)):
            if enabled:
                image = jnp.where(coins[axis], jnp.flip(image, axis), image)
                mask = jnp.where(coins[axis], jnp.flip(mask, axis), mask)
        return image, mask

    return augment


def affine(degrees: float, scale: tuple[float, float]) -> Augment:
    """Returns a random rotation and scaling about the image centre; see `warp`.

    The angle is uniform in -degrees..+degrees, the factor in `scale`; above 1 enlarges.
    """
    low, high = scale
    if degrees == 0 and low == high == 1:
        return identity

    def augment(key: Array, image: Array, mask: Array) -> tuple[Array, Array]:
        angle_key, scale_key = jax.random.split(key)
        angle = jax.random.uniform(angle_key, minval=-degrees, maxval=degrees)
        factor = jax.random.uniform(scale_key, minval=low, maxval=high)
        return warp(image, mask, jnp.deg2rad(angle), factor)

    return augment


def warp(image: Array, mask: Array, angle: Array, scale: Array) -> tuple[Array, Array]:
    """Rotates and scales image (bilinear) and mask (nearest) about the centre, at the same size.

    As PIL does: a pixel is a unit square whose centre moves, so a quarter turn of a square image is
    exact; pixels from outside are 0; within half a pixel of the border the nearest pixels replace
    those beyond it.

    Args:
        image: [H, W, C] float32.
        mask: [H, W], any dtype.
        angle: [] radians, clockwise.
        scale: [] above 1 enlarges.
    """
    height, width = mask.shape
    y = (jnp.arange(height) + 0.5 - height / 2)[:, None]
    x = (jnp.arange(width) + 0.5 - width / 2)[None, :]
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    from_y, from_x = cos * y - sin * x + height / 2, cos * x + sin * y + width / 2  # [H, W]
    inside = (0 <= from_y) & (from_y < height) & (0 <= from_x) & (from_x < width)

    def at(pixels: Array, row: Array, column: Array) -> Array:
        row = jnp.clip(row, 0, height - 1).astype(jnp.int32)
        column = jnp.clip(column, 0, width - 1).astype(jnp.int32)
        return pixels.at[row, column].get(mode="promise_in_bounds")

    top, left = jnp.floor(from_y - 0.5), jnp.floor(from_x - 0.5)
    down, right = (from_y - 0.5 - top)[..., None], (from_x - 0.5 - left)[..., None]
    upper = (1 - right) * at(image, top, left) + right * at(image, top, left + 1)
    lower = (1 - right) * at(image, top + 1, left) + right * at(image, top + 1, left + 1)
    warped = (1 - down) * upper + down * lower
    nearest = at(mask, jnp.floor(from_y), jnp.floor(from_x))
    return jnp.where(inside[..., None], warped, 0), jnp.where(inside, nearest, 0)


def color_jitter(brightness: float, contrast: float, saturation: float, hue: float) -> Augment:
    """Returns a random change of brightness, contrast, saturation and hue, in random order.

    The factor of brightness is uniform in max(0, 1 - brightness)..1 + brightness, likewise the
    others; the shift of hue in -hue..hue, in turns of the colour circle, at most 0.5.
    """
    strengths = (brightness, contrast, saturation)
    kinds = [kind for kind, strength in enumerate(strengths) if strength]
    if not kinds and not hue:
        return identity
    low = jnp.array([max(0.0, 1.0 - strength) for strength in strengths])
    high = jnp.array([1.0 + strength for strength in strengths])

    def augment(key: Array, image: Array, mask: Array) -> tuple[Array, Array]:
        order_key, place_key, factor_key, hue_key = jax.random.split(key, 4)
        order = jax.random.permutation(order_key, jnp.array(kinds, jnp.int32))
        factors = jax.random.uniform(factor_key, (3,), minval=low, maxval=high)[order]
        # Under vmap a branch costs all its cases, and the hue is expensive: it is computed once,
        # between the blends before it and those after; a factor of 1 skips a blend.
        place = jax.random.randint(place_key, (), 0, len(kinds) + 1) if hue else len(kinds)
        first = jnp.arange(len(kinds)) < place
        for i in range(len(kinds)):
            image = blend(image, order[i], jnp.where(first[i], factors[i], 1.0))
        if hue:
            image = shift_hue(image, jax.random.uniform(hue_key, minval=-hue, maxval=hue))
            for i in range(len(kinds)):
                image = blend(image, order[i], jnp.where(first[i], 1.0, factors[i]))
        return image, mask

    return augment


def invert(probability: float) -> Augment:
    """Returns the random swap of bright and dark, 255 - image, with that probability.

    For objects that are bright on dark in some images and dark on bright in others.
    """
    if probability == 0:
        return identity

    def augment(key: Array, image: Array, mask: Array) -> tuple[Array, Array]:
        return jnp.where(jax.random.bernoulli(key, probability), 255.0 - image, image), mask

    return augment


def intensity_jitter(brightness: float, contrast: float) -> Augment:
    """Returns a random change of brightness and contrast of each channel by itself.

    For channels that are no colours: hue and saturation mean nothing there, and their exposures
    differ from one another. The factors are those of `color_jitter`; brightness comes first.
    """
    if not brightness and not contrast:
        return identity
    low = jnp.array([[max(0.0, 1.0 - brightness)], [max(0.0, 1.0 - contrast)]])
    high = jnp.array([[1.0 + brightness], [1.0 + contrast]])

    def augment(key: Array, image: Array, mask: Array) -> tuple[Array, Array]:
        shape = 2, image.shape[-1]
        brighter, sharper = jax.random.uniform(key, shape, minval=low, maxval=high)
        image = jnp.clip(brighter * image, 0.0, 255.0)
        mean = image.mean(axis=(0, 1))
        return jnp.clip(sharper * image + (1 - sharper) * mean, 0.0, 255.0), mask

    return augment


def blend(image: Array, kind: Array | int, factor: Array | float) -> Array:
    """Returns factor * image + (1 - factor) * base, clipped to 0..255.

    Args:
        image: [H, W, 3] in 0..255.
        kind: [] selects the base: black for BRIGHTNESS, the mean of the grey image for CONTRAST,
            the grey image for SATURATION.
        factor: [] 1 is the identity; above 1 exaggerates.
    """
    grey = jnp.sum(image * jnp.array(LUMA), axis=-1, keepdims=True)
    base = jnp.where(kind == CONTRAST, grey.mean(), jnp.where(kind == SATURATION, grey, 0.0))
    return jnp.clip(factor * image + (1 - factor) * base, 0.0, 255.0)


def shift_hue(image: Array, turns: Array | float) -> Array:
    """Returns an image [H, W, 3] with its HSV hue moved by `turns` of the colour circle."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = image.max(axis=-1)
    chroma = value - image.min(axis=-1)
    safe = jnp.where(chroma > 0, chroma, 1.0)  # grey has no hue; with chroma 0 it stays as it is
    sextant = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    phase = sextant[..., None] + 6 * turns + jnp.array([5.0, 3.0, 1.0])  # of red, green, blue
    phase = jnp.mod(phase, 6)
    distance = jnp.clip(jnp.minimum(phase, 4 - phase), 0.0, 1.0)
    return value[..., None] - chroma[..., None] * distance
