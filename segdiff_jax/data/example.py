"""Defines an annotated image, a batch of them, and all conversions between their value ranges.

An image is 0..255 until `normalise`; a mask is {0, 1} as stored, {-1, +1} inside the diffusion
and a probability in [0, 1] after it. No other file converts between these.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


class Example(NamedTuple):
    """An image and its annotation, as stored on the host.

    Attributes:
        image: [H, W, 3] uint8, RGB; or [H, W, C] of other channels.
        mask: [h, w] uint8 in {0, 1}, 1 is foreground; of several annotators the `majority`. For
            training h = H and w = W; a test annotation may be larger, where a data set is scored
            at its original size.
        name: of the file or object, for error messages and reports.
        box: (top, left, height, width) of the object in the image, pixels; None: the example is
            no single object.
        group: scores are also averaged by group, such as the class of the object; "": none.
        annotations: [A, h, w] uint8 in {0, 1}, the masks of several annotators; None: of one.
        objects: [h, w] integers, the objects of the mask by their labels 1, 2, ..., 0 elsewhere;
            None: they are not known.
        classes: [h, w] uint8, of more than 8 classes that overlap uint16: the class map of the
            mask, see `classes`; None: it has no classes.
        pixel_size: side of a pixel of the image, micrometres; 0: it is not known.
    """

    image: np.ndarray
    mask: np.ndarray
    name: str
    box: tuple[int, int, int, int] | None = None
    group: str = ""
    annotations: np.ndarray | None = None
    objects: np.ndarray | None = None
    classes: np.ndarray | None = None
    pixel_size: float = 0.0

    @property
    def masks(self) -> np.ndarray:
        """The masks of all annotators, [A, h, w]; of one, his."""
        return self.mask[None] if self.annotations is None else self.annotations


@flax.struct.dataclass
class Batch:
    """Examples of one size, stacked; host arrays or device arrays.

    Attributes:
        image: [B, H, W, C] uint8; of RGB C is 3.
        mask: [B, H, W] uint8 in {0, 1}; of several channels bits, see `channels`.
    """

    image: Array
    mask: Array


def majority(annotations: np.ndarray) -> np.ndarray:
    """Returns the mask [h, w] of what at least half of the annotators mark, of [A, h, w] of {0, 1}.

    A tie is foreground, as in the consensus of half that pylidc computes of LIDC's readers; of two
    annotators it is therefore the union.
    """
    return (2 * annotations.sum(axis=0, dtype=np.int64) >= len(annotations)).astype(np.uint8)


def normalise(
    image: Array, mean: Sequence[float] | Array, std: Sequence[float] | Array
) -> jax.Array:
    """Returns (image - mean) / std as float32, by channel.

    The image is [..., H, W, C], uint8 or float; it, the mean and the deviation are in 0..255.
    """
    image = jnp.asarray(image, jnp.float32)
    return (image - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def to_signed(mask: Array, channels: int = 1) -> jax.Array:
    """Returns a mask [..., H, W] of {0, 1} as float32 [..., H, W, K] of {-1, +1}.

    Of K = 1 channel; of more, the mask holds channel k as bit k (`classes.pack`).
    """
    return 2.0 * to_bits(mask, channels) - 1.0


def to_bits(mask: Array, channels: int = 1) -> jax.Array:
    """Returns the channels of a mask [..., H, W] as float32 [..., H, W, K] of {0, 1}."""
    if channels == 1:
        return jnp.asarray(mask, jnp.float32)[..., None]
    bits = jnp.asarray(mask, jnp.int32)[..., None] >> jnp.arange(channels)
    return (bits & 1).astype(jnp.float32)


def to_probability(x0: Array) -> jax.Array:
    """Returns x0 [..., H, W, 1], where -1 is background and +1 foreground, as [..., H, W], 0 to 1.

    Of K > 1 channels, [..., H, W, K] becomes [..., K, H, W].

    A sampler without clipping returns values slightly outside; they are not clipped here:
    `average` clips after it has resized, as the authors do, since clipping before moves the 0.5
    contour.
    """
    return (by_channel(jnp.asarray(x0, jnp.float32)) + 1.0) / 2.0


def by_channel(values: jax.Array) -> jax.Array:
    """Returns [..., H, W, 1] as [..., H, W], and [..., H, W, K] of more as [..., K, H, W]."""
    return values[..., 0] if values.shape[-1] == 1 else jnp.moveaxis(values, -1, -3)
