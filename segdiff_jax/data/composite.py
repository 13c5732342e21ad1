"""Shows an image of any number of channels in colour: for panels, overlays and viewers."""

import numpy as np

MAGENTA, GREEN = (255, 0, 255), (0, 255, 0)  # of two channels, as colocalisation is usually shown
_SECTOR = np.array([5.0, 3.0, 1.0])  # of red, green and blue on the colour circle of six


def composite(image: np.ndarray) -> np.ndarray:
    """Returns an image [H, W, C] uint8 as [H, W, 3] uint8; of 3 channels the image itself.

    One channel is grey, two are magenta and green, more have colours evenly spaced on the colour
    circle. The colours of a pixel are added, each channel at its full brightness.
    """
    count = image.shape[-1]
    if count == 3:
        return image
    if count == 1:
        return np.repeat(image, 3, axis=-1)
    shown = image.astype(np.float32) @ colours(count).astype(np.float32) / np.float32(255)
    return np.rint(np.clip(shown, 0, 255)).astype(np.uint8)


def colours(count: int) -> np.ndarray:
    """Returns the colour of each of several channels, [count, 3] uint8, from blue on."""
    if count == 2:
        return np.array((MAGENTA, GREEN), np.uint8)
    hue = (4 - 6 * np.arange(count)[:, None] / count) % 6  # of the six sectors, blue is 4
    phase = (_SECTOR + hue) % 6
    return np.rint(255 * (1 - np.clip(np.minimum(phase, 4 - phase), 0, 1))).astype(np.uint8)
