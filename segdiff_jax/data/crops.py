"""What one step of training sees of an example: a window of one size, chosen on the host.

It runs before the pixels cross to the device, so that only those that are used do, and so that
images of any size make batches. What follows, in `augment`, keeps the size and runs on the device.
"""

from collections.abc import Callable

import numpy as np

from segdiff_jax.data.example import Example

# (generator, example) -> image [H, W, 3] uint8, mask [H, W] uint8; one size for all examples
CropFn = Callable[[np.random.Generator, Example], tuple[np.ndarray, np.ndarray]]


def full_image(generator: np.random.Generator, example: Example) -> tuple[np.ndarray, np.ndarray]:
    """The view of everything there is."""
    del generator
    return example.image, example.mask


def random_crop(size: int) -> CropFn:
    """Returns the view of a random square window, all places alike.

    An image that is smaller is first continued to the right and below by reflection.

    Args:
        size: side of the window, pixels; 0: the whole image.
    """
    if size == 0:
        return full_image

    def view(generator: np.random.Generator, example: Example) -> tuple[np.ndarray, np.ndarray]:
        image, mask = reflect_pad(example.image, size), reflect_pad(example.mask, size)
        height, width = mask.shape
        # doubles in [0, 1): the part of numpy's generators whose stream is fixed across versions
        y, x = (generator.random(2) * (height - size + 1, width - size + 1)).astype(int)
        return image[y : y + size, x : x + size], mask[y : y + size, x : x + size]

    return view


def reflect_pad(array: np.ndarray, size: int) -> np.ndarray:
    """Returns [h, w, ...] with sides of at least `size`, continued by reflection."""
    short = [(0, max(size - side, 0)) for side in array.shape[:2]]
    if not any(extra for _, extra in short):
        return array
    return np.pad(array, short + [(0, 0)] * (array.ndim - 2), mode="reflect")
