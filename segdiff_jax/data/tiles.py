"""Images larger than the network's input, cut into tiles and put together again (numpy)."""

from itertools import product

import numpy as np

from segdiff_jax.errors import UserError


def positions(height: int, width: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Returns the top left corner (y, x) of every tile, row by row.

    Tiles start every `stride` pixels; the last row and the last column are shifted inward, so that
    they end where the image ends. An image that is smaller than a tile has one, at 0.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        size: side of a tile, pixels.
        stride: from tile to tile, pixels.

    Raises:
        UserError: if tiles would leave gaps.
    """
    if not 1 <= stride <= size:
        raise UserError(f"sampling.stride = {stride}: must be 1..{size}, the side of a tile")
    return list(product(_starts(height, size, stride), _starts(width, size, stride)))


def _starts(length: int, size: int, stride: int) -> list[int]:
    last = max(length - size, 0)
    return [*range(0, last, stride), last]


def cut(image: np.ndarray, size: int, stride: int) -> np.ndarray:
    """Returns the tiles of an image, in the order of `positions`.

    An image that is smaller than a tile is first continued to the right and below by reflection.

    Args:
        image: [H, W, C], any dtype.
        size: side of a tile, pixels.
        stride: from tile to tile, pixels.

    Returns:
        [N, size, size, C], the dtype of the image.
    """
    height, width = image.shape[:2]
    short = [(0, max(size - height, 0)), (0, max(size - width, 0)), (0, 0)]
    image = np.pad(image, short, mode="reflect")
    corners = positions(height, width, size, stride)
    return np.stack([image[y : y + size, x : x + size] for y, x in corners])


def paste(tiles: np.ndarray, shape: tuple[int, int], stride: int) -> np.ndarray:
    """Returns the image that tiles in the order of `positions` make; overlaps are averaged.

    Args:
        tiles: [..., N, size, size], one value a pixel.
        shape: (H, W) of the image that was cut.
        stride: that it was cut with.

    Returns:
        [..., H, W] float32 (float64 if the tiles are).

    Raises:
        ValueError: if N is not the number of tiles of such an image.
    """
    height, width = shape
    *leading, n, size, _ = tiles.shape
    corners = positions(height, width, size, stride)
    if n != len(corners):
        raise ValueError(f"{n} tiles: an image of {shape} has {len(corners)}")
    canvas = (max(height, size), max(width, size))
    total = np.zeros((*leading, *canvas), np.result_type(tiles.dtype, np.float32))
    count = np.zeros(canvas, total.dtype)
    for i, (y, x) in enumerate(corners):
        total[..., y : y + size, x : x + size] += tiles[..., i, :, :]
        count[y : y + size, x : x + size] += 1
    return (total / count)[..., :height, :width]
