"""Cuts large images into overlapping tiles and blends the predictions of the tiles row by row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from segdiff_jax.data.crops import reflect_pad

PARTS = (4, 2)  # of the side of a tile, for images that are smaller


@dataclass(frozen=True)
class Grid:
    """The positions of the tiles of an image.

    Attributes:
        shape: (H, W) of the image, pixels.
        tile: (h, w) of every tile; it may be larger than the image.
        stride: from tile to tile, pixels.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    stride: int

    @cached_property
    def corners(self) -> list[tuple[int, int]]:
        """The top left corner (y, x) of every tile, row by row.

        Tiles start every `stride` pixels; the last row and the last column are shifted inward to
        end where the image ends. An axis that fits into one tile has one, at 0.
        """
        (height, width), (h, w) = self.shape, self.tile
        return list(product(_starts(height, h, self.stride), _starts(width, w, self.stride)))

    @cached_property
    def window(self) -> np.ndarray:
        """The blending weight of every pixel of a tile, [h, w] float32 in (0, 1].

        It falls quadratically over the overlap with the next tile; without an overlap it is 1.
        """
        down, right = (_ramp(side, side - self.stride) for side in self.tile)
        return np.outer(down, right).astype(np.float32)


def grid(shape: tuple[int, ...], size: int, stride: int, multiple: int) -> Grid:
    """Returns the tiles of an image.

    They are squares: of a quarter of `size`, of half of it, or of `size`, whichever the image fits
    into first, and an image that is larger than all is cut. So images of any size need three
    compiled programs. Without tiles an image is extended to what the network takes.

    Args:
        shape: of the image, (H, W, ...).
        size: side of a tile, pixels, a multiple of `multiple`; 0: never cut.
        stride: from tile to tile, pixels, 1 to `size`.
        multiple: divides the sides of the network's input.
    """
    height, width = shape[:2]
    if not size:
        down, right = (-(-length // multiple) * multiple for length in (height, width))
        return Grid((height, width), (down, right), stride or max(height, width))
    sides = [size // part for part in PARTS if size % (part * multiple) == 0]
    side = next((side for side in sides if max(height, width) <= side), size)
    return Grid((height, width), (side, side), stride)


def extract_tiles(image: np.ndarray, places: Grid) -> Iterator[np.ndarray]:
    """Yields the tiles [h, w, ...] of an image, extended by reflection beyond its end."""
    image, (height, width) = reflect_pad(image, places.tile), places.tile
    for y, x in places.corners:
        yield image[y : y + height, x : x + width]


class Rows(NamedTuple):
    """Finished rows of an image: values [..., rows, W] from row `top` on."""

    top: int
    values: np.ndarray


class RowBlender:
    """Blends tiles into an image; holds only the rows that later tiles may change.

    Tiles are added in the order of `Grid.corners` and weighted by `Grid.window`.
    """

    def __init__(self, places: Grid, leading: Sequence[int] = ()) -> None:
        """Starts at the top of an image; `leading` are the axes of a tile before its two sides."""
        self.places, self._top, self._added = places, 0, 0
        width = max(places.shape[1], places.tile[1])
        self._total = np.zeros((*leading, places.tile[0], width), np.float32)
        self._weight = np.zeros(self._total.shape[-2:], np.float32)

    def add(self, tile: np.ndarray) -> Rows | None:
        """Adds the next tile [..., h, w]; returns the rows that it finishes, or None."""
        corners, (height, width) = self.places.corners, self.places.tile
        x = corners[self._added][1]
        window = self.places.window
        self._total[..., x : x + width] += tile * window
        self._weight[:, x : x + width] += window
        self._added += 1
        last = self._added == len(corners)
        # rows above the next tile are final
        rows = (self.places.shape[0] if last else corners[self._added][0]) - self._top
        if not rows:
            return None
        values = (self._total[..., :rows, :] / self._weight[:rows])[..., : self.places.shape[1]]
        finished = Rows(self._top, values)
        self._top += rows
        for array in (self._total, self._weight):
            kept = height - min(rows, height)
            array[..., :kept, :] = array[..., height - kept :, :].copy()
            array[..., kept:, :] = 0
        return finished


def _starts(length: int, size: int, stride: int) -> list[int]:
    last = max(length - size, 0)
    return [*range(0, last, stride), last]


def _ramp(side: int, shared: int) -> np.ndarray:
    """Returns weights [side] that rise quadratically to 1 from both ends over the shared pixels.

    A linear ramp is visible in the result as a line where its slope begins.
    """
    if shared <= 0:
        return np.ones(side)
    inside = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    return np.minimum(inside / shared, 1.0) ** 2
