"""Segments images: tiles -> (tile, generation) rows -> devices -> finished rows of each image.

A call samples the rows of up to `max_tiles_per_call` tiles. Rows are dealt to the devices in turn,
and each device keeps its own from the front, so that padding lies behind them and is not computed.
Seven rows on two devices, two rows an iteration:

    slot        0   1   2   3 | 4   5   6   7
    device      0   0   0   0 | 1   1   1   1
    row         0   2   4   6 | 1   3   5   -
    iteration   0   0   1   1 | 0   0   1   1
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby, islice
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from segdiff_jax.data.tiling import Grid, RowBlender, extract_tiles, grid
from segdiff_jax.inference.sampler import MaskSampler, row_key, sample_rows
from segdiff_jax.models.segdiff import Params, at_precision
from segdiff_jax.runtime import compilation, distributed, signals


class CallPlan(NamedTuple):
    """The padded shapes of a call; one compiled program serves all calls of a plan."""

    devices: int  # of the mesh
    tiles: int  # slots for tiles, over all devices
    tiles_per_iteration: int  # that a device encodes in one batch
    rows: int  # slots for (tile, generation) rows, over all devices
    rows_per_iteration: int  # that a device denoises in one batch

    def iterations(self, tiles: int, rows: int) -> np.ndarray:
        """Returns how often each device encodes and denoises for so many: [devices, 2] int32.

        A device with fewer rows stops earlier and leaves shared CPU cores to the others.
        """
        remaining = np.array([tiles, rows]) - np.arange(self.devices)[:, None]  # from each one on
        per_iteration = np.array([self.tiles_per_iteration, self.rows_per_iteration])
        return -(-remaining // (self.devices * per_iteration)).astype(np.int32)


def plan_call(
    tiles: int, generations: int, devices: int, rows_per_device: int, orientations: int = 1
) -> CallPlan:
    """Plans a call that spreads the rows evenly, at most `rows_per_device` of them an iteration."""
    tiles_per_iteration, tile_slots = _slots(tiles * orientations, devices, rows_per_device)
    rows_per_iteration, row_slots = _slots(tiles * generations, devices, rows_per_device)
    return CallPlan(devices, tile_slots, tiles_per_iteration, row_slots, rows_per_iteration)


def _slots(count: int, devices: int, most: int) -> tuple[int, int]:
    """Returns how many a device takes in an iteration, and the slots of all devices."""
    per_device = -(-count // devices)  # rounded up
    iterations = -(-per_device // most)
    per_iteration = -(-per_device // iterations)
    return per_iteration, devices * iterations * per_iteration


def interleaved_slots(count: int, slots: int, devices: int) -> np.ndarray:
    """Returns the slot of each of `count` items: item i goes to device i modulo devices."""
    position, device = np.divmod(np.arange(count), devices)
    return device * (slots // devices) + position


class Tile(NamedTuple):
    """A piece of an image."""

    image: int  # number of the image, which its noise depends on
    corner: tuple[int, int]  # (y, x) of its top left pixel in the image
    pixels: np.ndarray  # [h, w, 3] uint8
    grid: Grid  # of the image's tiles; the same object for all of them


class ImageRows(NamedTuple):
    """Finished rows of an image.

    Attributes:
      image: index of the image, from 0.
      top: the first of the rows.
      generations: [S, rows, W] float32 soft masks, about 0..1 and not clipped; of K > 1 channels
        [S, K, rows, W].
      last: whether these are the image's last rows.
    """

    image: int
    top: int
    generations: np.ndarray
    last: bool


@dataclass(frozen=True, eq=False)
class Segmenter:
    """Samples `generations` masks of each image, on every device of the mesh.

    Segmenters that share sampler and mesh share their compiled programs, so `dataclasses.replace`
    of any other field compiles nothing that was compiled before.

    Attributes:
      sampler: see `MaskSampler`.
      params: replicated over the mesh.
      mesh: of all devices.
      generations: S.
      tile, stride: larger images are cut, see `data.tiling`; tile 0: never.
      max_tiles_per_call: tiles that are sent to the devices in one call.
      rows_per_device: rows that one device denoises in one batch, at most; bounds memory. With 1 a
        prediction is independent, to its last bit, of what else is predicted: for larger batches
        libraries sum the products of a row in another order.
      multiple: what the sides of the network's input must be multiples of.
      orientations: generation g sees its tile in orientation g modulo this number, see `oriented`.
      first, every: generation g has the noise of number first + every * g.
    """

    sampler: MaskSampler
    params: Params
    mesh: Mesh
    generations: int
    tile: int
    stride: int
    max_tiles_per_call: int
    rows_per_device: int
    multiple: int
    orientations: int = 1
    first: int = 0
    every: int = 1

    def __call__(self, images: Iterable[np.ndarray], key: jax.Array) -> Iterator[np.ndarray]:
        """Yields the generations of each image in turn, [S, H, W] float32, or [S, K, H, W].

        They are soft masks (x0 + 1) / 2, about 0..1 and not clipped: `averaging.average` resizes,
        clips and averages, in this order. With the same key a generation is the same whatever the
        number of generations and devices, and whatever other images there are: to the last bit on
        a CPU if `rows_per_device` is 1, else up to rounding.

        Args:
          images: [H, W, 3] uint8 each; each size of tile that occurs is compiled for once.
          key: of the whole data set; see `row_key`.
        """
        parts: list[np.ndarray] = []
        for rows in self.bands(images, key):
            parts.append(rows.generations)
            if rows.last:
                yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)
                parts = []

    def bands(
        self, images: Iterable[np.ndarray], key: jax.Array, first: int = 0
    ) -> Iterator[ImageRows]:
        """Yields finished rows of image after image; holds no more than one row of tiles.

        Args:
          images: as in `__call__`.
          key: as in `__call__`.
          first: the number of the first image, which its noise depends on.
        """
        blender: RowBlender | None = None
        for tile, masks in self._tile_masks(self._tiles(images, first), key):
            blender = blender or RowBlender(tile.grid, masks.shape[:-2])
            if (rows := blender.add(masks)) is None:
                continue
            last = rows.top + rows.values.shape[-2] == tile.grid.shape[0]
            yield ImageRows(tile.image - first, rows.top, rows.values, last)
            blender = None if last else blender

    def _tiles(self, images: Iterable[np.ndarray], first: int) -> Iterator[Tile]:
        for number, image in enumerate(images, first):
            tiling = grid(image.shape, self.tile, self.stride, self.multiple)
            for corner, pixels in zip(tiling.corners, extract_tiles(image, tiling), strict=True):
                yield Tile(number, corner, pixels, tiling)

    def _tile_masks(
        self, tiles: Iterator[Tile], key: jax.Array
    ) -> Iterator[tuple[Tile, np.ndarray]]:
        """Yields each tile with its generations [S, h, w]."""
        for _, same_size in groupby(tiles, lambda tile: tile.pixels.shape):
            plan = None
            while group := list(islice(same_size, self.max_tiles_per_call)):
                if plan is None:
                    plan = plan_call(
                        self._slots_for(len(group)),
                        self.generations,
                        self.mesh.size,
                        self.rows_per_device,
                        self.orientations,
                    )
                yield from zip(group, self._run(group, plan, key), strict=True)

    def _slots_for(self, tiles: int) -> int:
        """Returns the tiles that a program is made for, which serves any smaller number of them.

        Padding costs nothing where rows are denoised one by one. In batches it does, so that there
        a tile that is alone has a program of its own.
        """
        alone = tiles == 1 and self.rows_per_device > 1
        return 1 if alone else self.max_tiles_per_call

    def _run(self, group: list[Tile], plan: CallPlan, key: jax.Array) -> np.ndarray:
        """Samples all generations of a group of tiles: [N, S, h, w], or [N, S, K, h, w]."""
        n, S, turns = len(group), self.generations, self.orientations
        tile, generation = np.divmod(np.arange(n * S), S)
        seen = tile * turns + generation % turns  # the tile in the orientation of the row
        image = np.array([tile.image for tile in group])
        number = self.first + self.every * generation
        corners = np.array([tile.corner for tile in group], np.int32)
        tile_slots = interleaved_slots(n * turns, plan.tiles, plan.devices)
        row_slots = interleaved_slots(n * S, plan.rows, plan.devices)
        # of all slots, as many as there are in every call: what is new compiles
        numbers = (_scatter(one, row_slots, plan.rows) for one in (image[tile], number))
        keys = jax.vmap(row_key, (None, 0, 0))(key, *numbers)
        operands = (
            plan.iterations(n * turns, n * S),
            _scatter(_all_oriented(group, turns), tile_slots, plan.tiles),
            _scatter(tile_slots[seen].astype(np.int32), row_slots, plan.rows),
            np.asarray(jax.random.key_data(keys)),
            _scatter(corners[tile], row_slots, plan.rows),
        )
        program = _program(self.sampler, self.mesh, plan)
        operands = distributed.split(operands, self.mesh)
        # the first call compiles; later ones wait for the devices, as long as many training steps
        with program.reported_if_new(group[0].pixels.shape[:2]):
            out = signals.call_interruptible(
                lambda: distributed.gather(program.call(self.params, *operands))
            )
        out = out[row_slots].reshape(n, S, *out.shape[1:])
        for g in range(S if turns > 1 else 0):
            out[:, g] = restored(out[:, g], g % turns)
        return out


class Program(NamedTuple):
    """The program of a plan; it compiles once for a size of tile."""

    call: Callable
    sizes: set[tuple[int, ...]]  # that it was compiled for

    @contextmanager
    def reported_if_new(self, size: tuple[int, ...]) -> Iterator[None]:
        """Reports a block that calls the program as a compilation, if it is one."""
        if size in self.sizes:
            yield
            return
        with compilation.reported(f"tiles of {size[0]} x {size[1]} pixels"):
            yield
        self.sizes.add(size)


@lru_cache(maxsize=32)
def _program(sampler: MaskSampler, mesh: Mesh, plan: CallPlan) -> Program:
    """Returns the program of a plan, mapped over the mesh."""
    step = partial(
        sample_rows,
        sampler=sampler,
        tiles_per_iteration=plan.tiles_per_iteration,
        rows_per_iteration=plan.rows_per_iteration,
    )
    axis = P(distributed.AXIS)
    step = at_precision(sampler.model.precision, step)
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(P(), *[axis] * 5), out_specs=axis, check_vma=False
    )
    return Program(jax.jit(mapped), set())


def oriented(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Returns [h, w, ...] mirrored and turned by half, and transposed if it is a square.

    Args:
      pixels: any array whose first two axes are rows and columns.
      orientation: 0..7, 0 is as it is; bit 0 mirrors columns, bit 1 rows, bit 2 transposes.
    """
    if orientation & 1:
        pixels = pixels[:, ::-1]
    if orientation & 2:
        pixels = pixels[::-1]
    square = pixels.shape[0] == pixels.shape[1]  # of another shape, 4 to 7 are 0 to 3 again
    return pixels.swapaxes(0, 1) if orientation & 4 and square else pixels


def restored(masks: np.ndarray, orientation: int) -> np.ndarray:
    """Returns masks [..., h, w] of pixels in an orientation as those of the pixels themselves."""
    if orientation & 4 and masks.shape[-2] == masks.shape[-1]:
        masks = masks.swapaxes(-1, -2)
    if orientation & 2:
        masks = masks[..., ::-1, :]
    return masks[..., ::-1] if orientation & 1 else masks


def _all_oriented(group: list[Tile], orientations: int) -> np.ndarray:
    """Returns the pixels of tiles in each orientation, [N * orientations, h, w, 3]."""
    return np.stack([oriented(t.pixels, o) for t in group for o in range(orientations)])


def _scatter(values: np.ndarray, slots: np.ndarray, total: int) -> np.ndarray:
    """Returns an array of `total` items: values at their slots, zeros elsewhere."""
    out = np.zeros((total, *values.shape[1:]), values.dtype)
    out[slots] = values
    return out
