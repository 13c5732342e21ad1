"""Crops training examples to one size, on the host.

Only the pixels of the crop are transferred to the device, and images of any size make batches. The
augmentation that follows, in `augment`, keeps the size and runs on the device.
"""

from collections.abc import Callable

import numpy as np

from segdiff_jax.data.example import Example

# (generator, example) -> image [H, W, 3] uint8, mask [H, W] uint8; one size for all examples
CropFn = Callable[[np.random.Generator, Example], tuple[np.ndarray, np.ndarray]]


def full_image(generator: np.random.Generator, example: Example) -> tuple[np.ndarray, np.ndarray]:
    """Returns the whole image and mask."""
    del generator
    return example.image, example.mask


def random_crop(size: int) -> CropFn:
    """Returns the crop of a random square window, uniform over all positions.

    A smaller image is first extended to the right and below by reflection.

    Args:
        size: side of the window, pixels; 0: the whole image.
    """
    if size == 0:
        return full_image

    def crop(generator: np.random.Generator, example: Example) -> tuple[np.ndarray, np.ndarray]:
        image, mask = (reflect_pad(a, (size, size)) for a in (example.image, example.mask))
        height, width = mask.shape
        # doubles in [0, 1): their stream is stable across versions of numpy
        y, x = (generator.random(2) * (height - size + 1, width - size + 1)).astype(int)
        return image[y : y + size, x : x + size], mask[y : y + size, x : x + size]

    return crop


def reflect_pad(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns an array [h, w, ...] extended by reflection to a height and width of at least `size`.

    It is extended to the right and below; an array that is large enough is returned itself.
    """
    short = [(0, max(side - n, 0)) for side, n in zip(size, array.shape[:2], strict=True)]
    if not any(extra for _, extra in short):
        return array
    return np.pad(array, short + [(0, 0)] * (array.ndim - 2), mode="reflect")
