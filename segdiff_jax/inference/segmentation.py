"""How to answer: images in, several masks of each out (paper, Alg. 1 and section 4.1)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from segdiff_jax.data.tiling import Grid, RowBlender, extract_tiles, grid
from segdiff_jax.inference.sampler import AXIS, MaskSampler, row_key, sample_rows
from segdiff_jax.models.segdiff import Params
from segdiff_jax.runtime import distributed, signals


class CallPlan(NamedTuple):
    """How the rows of a call lie on the devices; one compiled program serves all calls of a layout.

    Attributes:
      devices: how many there are.
      tiles: in a call, with padding that makes all devices' shares alike.
      tiles_at_once: a device encodes together.
      rows: (tile, generation) pairs in a call, with padding.
      rows_at_once: a device denoises together.
    """

    devices: int
    tiles: int
    tiles_at_once: int
    rows: int
    rows_at_once: int

    def iterations(self, tiles: int, rows: int) -> np.ndarray:
        """Returns how often each device encodes and denoises for so many: [devices, 2] int32.

        A device with less to do leaves the cores to the others where they share them.
        """
        wanted = np.array([tiles, rows]) - np.arange(self.devices)[:, None]  # from each on
        at_once = np.array([self.tiles_at_once, self.rows_at_once])
        return -(-wanted // (self.devices * at_once)).astype(np.int32)


def layout(tiles: int, generations: int, devices: int, limit: int) -> CallPlan:
    """Spreads the rows evenly over the devices, at most `limit` at once on each of them."""
    tiles_at_once, share_of_tiles = _portions(tiles, devices, limit)
    rows_at_once, share_of_rows = _portions(tiles * generations, devices, limit)
    shares = devices * share_of_tiles, devices * share_of_rows
    return CallPlan(devices, shares[0], tiles_at_once, shares[1], rows_at_once)


def _portions(count: int, devices: int, limit: int) -> tuple[int, int]:
    """Returns how many of its share a device takes at once, and the share, a multiple of that."""
    share = -(-count // devices)  # rounded up
    rounds = -(-share // limit)
    at_once = -(-share // rounds)
    return at_once, rounds * at_once


def interleaved_slots(count: int, total: int, devices: int) -> np.ndarray:
    """Returns where things are put among `total` so that the devices have equally many of them."""
    share, device = np.divmod(np.arange(count), devices)
    return device * (total // devices) + share


class Tile(NamedTuple):
    """A piece of an image.

    Attributes:
      image: number of the image, which its noise depends on.
      corner: (y, x) of its top left pixel in the image.
      pixels: [h, w, 3] uint8.
      grid: of the image's tiles; the same object for all of them.
    """

    image: int
    corner: tuple[int, int]
    pixels: np.ndarray
    grid: Grid


class ImageRows(NamedTuple):
    """Finished rows of an image.

    Attributes:
      image: its place among the images, from 0.
      top: the first of the rows.
      generations: [S, rows, W] float32 soft masks, about 0..1 and not clipped.
      last: whether these are the image's last rows.
    """

    image: int
    top: int
    generations: np.ndarray
    last: bool


def chunks(tiles: Iterator[Tile], size: int) -> Iterator[list[Tile]]:
    """Yields the tiles in lists of this size; the last may be shorter."""
    while group := list(islice(tiles, size)):
        yield group


@dataclass(frozen=True, eq=False)
class Segmenter:
    """Draws `generations` masks of each image, on every device of the mesh.

    Attributes:
      sampler: see `MaskSampler`.
      params: replicated over the mesh.
      mesh: of all devices.
      generations: S.
      tile, stride: larger images are cut, see `data.tiles`; tile 0: never.
      most: tiles that are handed to the devices in one call.
      limit: rows that one device denoises together; bounds memory. With 1 no answer depends, not in
        its last bit, on what else is answered: libraries sum the products of one row in another
        order when there are more.
      multiple: what the sides of the network's input must be multiples of.
    """

    sampler: MaskSampler
    params: Params
    mesh: Mesh
    generations: int
    tile: int
    stride: int
    most: int
    limit: int
    multiple: int
    _programs: dict[CallPlan, Callable] = field(default_factory=dict, repr=False)

    def __call__(self, images: Iterable[np.ndarray], key: jax.Array) -> Iterator[np.ndarray]:
        """Yields the generations of each image in turn, [S, H, W] float32.

        They are soft masks (x0 + 1) / 2, about 0..1 and not clipped: `averaging.average` resizes,
        clips and averages, in this order. With the same key a generation is the same whatever the
        number of generations and devices, and whatever other images there are: to the last bit on
        a CPU if `limit` is 1, else but for rounding.

        Args:
          images: [H, W, 3] uint8 each; each size of tile that occurs is compiled for once.
          key: of the whole data set; see `row_key`.
        """
        rows: list[np.ndarray] = []
        for band in self.bands(images, key):
            rows.append(band.generations)
            if band.last:
                yield rows[0] if len(rows) == 1 else np.concatenate(rows, axis=-2)
                rows = []

    def bands(
        self, images: Iterable[np.ndarray], key: jax.Array, first: int = 0
    ) -> Iterator[ImageRows]:
        """Yields what `__call__` does in bands of rows, holding no more than a row of tiles.

        Args:
          images: as in `__call__`.
          key: as in `__call__`.
          first: the number of the first image, which its noise depends on.
        """
        strip: RowBlender | None = None
        for _, run in groupby(self._tiles(images, first), lambda tile: tile.pixels.shape):
            plan = None
            for group in chunks(run, self.most):
                if plan is None:  # powers of two, so that few programs serve any number of tiles
                    tiles = min(self.most, 1 << (len(group) - 1).bit_length())
                    plan = layout(tiles, self.generations, self.mesh.size, self.limit)
                for tile, answer in zip(group, self._run(group, plan, key), strict=True):
                    strip = strip or RowBlender(tile.grid, answer.shape[:-2])
                    if (band := strip.add(answer)) is None:
                        continue
                    last = band.top + band.values.shape[-2] == tile.grid.shape[0]
                    yield ImageRows(tile.image - first, band.top, band.values, last)
                    strip = None if last else strip

    def _tiles(self, images: Iterable[np.ndarray], first: int) -> Iterator[Tile]:
        for number, image in enumerate(images, first):
            places = grid(image.shape, self.tile, self.stride, self.multiple)
            for corner, pixels in zip(places.corners, extract_tiles(image, places), strict=True):
                yield Tile(number, corner, pixels, places)

    def _run(self, group: list[Tile], plan: CallPlan, key: jax.Array) -> np.ndarray:
        """Draws all generations of a group of tiles of one size: [N, S, h, w]."""
        n, S = len(group), self.generations
        index, generation = np.divmod(np.arange(n * S), S)
        image = np.array([tile.image for tile in group])
        keys = jax.vmap(row_key, (None, 0, 0))(key, image[index], generation)
        corners = np.array([tile.corner for tile in group], np.int32)
        at_tile = interleaved_slots(n, plan.tiles, plan.devices)
        at_row = interleaved_slots(n * S, plan.rows, plan.devices)
        rows = (
            plan.iterations(n, n * S),
            _put(np.stack([tile.pixels for tile in group]), at_tile, plan.tiles),
            _put(at_tile[index].astype(np.int32), at_row, plan.rows),
            _put(np.asarray(jax.random.key_data(keys)), at_row, plan.rows),
            _put(corners[index], at_row, plan.rows),
        )
        if plan not in self._programs:
            self._programs[plan] = self._program(plan)
        program, rows = self._programs[plan], distributed.split(rows, self.mesh)
        # which compiles the program, or waits for the devices for as long as many steps take
        out = signals.call_interruptible(lambda: distributed.gather(program(self.params, *rows)))
        return out[at_row].reshape(n, S, *out.shape[1:])

    def _program(self, plan: CallPlan) -> Callable:
        step = partial(
            sample_rows,
            sampler=self.sampler,
            tiles_at_once=plan.tiles_at_once,
            rows_at_once=plan.rows_at_once,
        )
        in_specs = P(), *[P(AXIS)] * 5
        return jax.jit(
            jax.shard_map(
                step, mesh=self.mesh, in_specs=in_specs, out_specs=P(AXIS), check_vma=False
            )
        )


def _put(values: np.ndarray, where: np.ndarray, total: int) -> np.ndarray:
    """Returns `total` things, the values in their places and zeros elsewhere."""
    out = np.zeros((total, *values.shape[1:]), values.dtype)
    out[where] = values
    return out
