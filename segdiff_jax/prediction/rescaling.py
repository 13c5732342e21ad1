"""Predicts pictures at another scale, and brings the rows of the results back to their own size.

A network knows objects of about the size of those it was trained on. A picture whose objects are
twice as large is predicted at half its size. Pictures are resized by bicubic interpolation, results
by bilinear; both average where they reduce. Rows are brought back as they arrive, so that a picture
of any size needs the memory of a few rows.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from segdiff_jax.inference.predictor import PredictedRows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Bands = Callable[[Iterable[np.ndarray], int], Iterable[PredictedRows]]


def rescaled(bands: Bands, factor: float | Callable[[int], float]) -> Bands:
    """Returns bands of rows as `bands` yields them, of pictures predicted `factor` times as large.

    Args:
      bands: takes images [H, W, 3] uint8 and the number of the first; yields their rows in order.
      factor: above 0; of the sides of pictures; or that of each picture by its number.
    """

    def of(number: int) -> float:
        return factor(number) if callable(factor) else factor

    def predict(images: Iterable[np.ndarray], first: int = 0) -> Iterator[PredictedRows]:
        shapes: list[tuple[int, int]] = []
        sizes: list[tuple[int, int]] = []  # at which they are predicted

        def resized() -> Iterator[np.ndarray]:
            for number, image in enumerate(images, first):
                shapes.append(image.shape[:2])
                sizes.append(scaled_size(shapes[-1], of(number)))
                yield picture(image, of(number))

        back: dict[int, PictureRows] = {}
        for rows in bands(resized(), first):
            own, size = shapes[rows.image], sizes[rows.image]
            if size == own:
                yield rows
                continue
            if rows.image not in back:
                back[rows.image] = PictureRows(size, own)
            if (ready := back[rows.image].add(rows)) is not None:
                yield ready
            if rows.last:
                del back[rows.image]

    return predict


def scaled_size(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    """Returns the sides of a picture of this shape, times `factor`; at least a pixel each."""
    height, width = (max(1, round(side * factor)) for side in shape)
    return height, width


def picture(image: np.ndarray, factor: float) -> np.ndarray:
    """Returns an image [H, W, 3] uint8 as [h, w, 3], `factor` times as large."""
    height, width = scaled_size(image.shape[:2], factor)
    if (height, width) == image.shape[:2]:
        return image
    size, way = (width, height), Image.Resampling.BICUBIC
    if image.shape[-1] == 3:
        return np.array(Image.fromarray(image).resize(size, way))
    channels = (Image.fromarray(np.ascontiguousarray(one)) for one in np.moveaxis(image, -1, 0))
    return np.stack([np.array(one.resize(size, way)) for one in channels], axis=-1)


class PictureRows:
    """Brings the rows of one picture to another size, field by field.

    Args:
      shape: (h, w) of the rows that are added, all of them together.
      own: (H, W) of the rows that are returned.
    """

    def __init__(self, shape: tuple[int, int], own: tuple[int, int]) -> None:
        self._weights = weights(shape[0], own[0]), weights(shape[1], own[1])
        self._fields: dict[str, _Rows] = {}
        self._top = 0  # rows returned so far

    def add(self, rows: PredictedRows) -> PredictedRows | None:
        """Adds the next rows, and returns those that are complete; None: there are none yet.

        Samples of 0 and 1 are so again: where the resized one is above 1/2.
        """
        ready = self._resized("", rows)
        count = ready.probability.shape[-2]
        if ready.samples is not None:
            ready = ready._replace(samples=(ready.samples > 0.5).astype(np.uint8))
        self._top += count
        return ready._replace(top=self._top - count) if count else None

    def _resized(self, name: str, value: Any) -> Any:
        """Returns the complete rows of an array, of all arrays in a named tuple, else the value."""
        if isinstance(value, np.ndarray):
            of = self._fields.setdefault(name, _Rows(*self._weights))
            return of.add(np.asarray(value, np.float32))
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            items = value._asdict().items()  # type: ignore[attr-defined]
            return type(value)(*(self._resized(f"{name}.{key}", one) for key, one in items))
        return value


class _Rows:
    """Resizes [..., rows, w] that come in parts; see `PictureRows`."""

    def __init__(self, down: "csr_array", across: "csr_array") -> None:
        self._down, self._across = down, across
        self._first = down.indices[down.indptr[:-1]]  # source rows of each row
        self._last = down.indices[down.indptr[1:] - 1]
        self._done = self._start = 0  # rows returned; the source row with which `_kept` begins
        self._kept: np.ndarray | None = None

    def add(self, part: np.ndarray) -> np.ndarray:
        """Adds source rows [..., r, w], and returns the rows [..., R, W] that are complete."""
        narrow = _along(self._across, part, -1)
        kept = narrow if self._kept is None else np.concatenate([self._kept, narrow], axis=-2)
        end = self._start + kept.shape[-2]
        ready = int(np.searchsorted(self._last, end))
        rows = _along(self._down[self._done : ready, self._start : end], kept, -2)
        start = int(self._first[ready]) if ready < len(self._first) else end
        start = min(start, end)
        self._kept, self._start, self._done = kept[..., start - self._start :, :], start, ready
        return rows


def _along(matrix: "csr_array", values: np.ndarray, axis: int) -> np.ndarray:
    """Returns values [...] multiplied by a matrix [N, n] along an axis of n, as float32."""
    first = np.moveaxis(values, axis, 0)
    product = matrix @ first.reshape(len(first), -1)
    return np.moveaxis(product.reshape(-1, *first.shape[1:]), 0, axis).astype(np.float32)


def weights(source: int, target: int) -> "csr_array":
    """Returns the weights [target, source] of bilinear interpolation, averaging where it reduces.

    A triangle around the middle of each target pixel, as wide as two pixels of the larger size;
    each row adds to 1.
    """
    width = max(source / target, 1.0)
    centre = (np.arange(target) + 0.5) * source / target - 0.5
    reach = int(np.ceil(width))
    near = np.floor(centre).astype(int)[:, None] + np.arange(-reach, reach + 2)
    weight = np.maximum(0, 1 - np.abs(near - centre[:, None]) / width)
    weight[(near < 0) | (near >= source)] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    row, place = np.nonzero(weight)
    values = weight[row, place].astype(np.float32), (row, near[row, place])
    from scipy.sparse import csr_array  # slow to import

    return csr_array(values, (target, source))
