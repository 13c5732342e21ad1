"""Gives each class a colour: in panels, overlays, class maps and outlines for other programs.

The first eight are those of Okabe and Ito (2008), which differ in any colour vision, without black
and beginning with the ones farthest apart.
"""

import numpy as np

BACKGROUND = (0, 0, 0)
COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (153, 153, 153),
    (148, 103, 189),
    (140, 86, 75),
    (127, 255, 127),
    (255, 152, 150),
    (23, 190, 207),
    (255, 255, 255),
)
PALETTE = np.array((BACKGROUND, *COLOURS), np.uint8)  # [15, 3], by the number of the class


def coloured(classes: np.ndarray, overlap: bool = False) -> np.ndarray:
    """Returns a class map [H, W] as a picture [H, W, 3] uint8.

    Where classes overlap a pixel has the mean of their colours.
    """
    if not overlap:
        return PALETTE[classes]
    bits = (classes[..., None] >> np.arange(len(COLOURS)) & 1).astype(np.float32)
    count = np.maximum(bits.sum(axis=-1, keepdims=True), 1)
    return np.rint(bits @ PALETTE[1:].astype(np.float32) / count).astype(np.uint8)
