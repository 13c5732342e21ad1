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

from segdiff_jax import interruption, parallel
from segdiff_jax.data.tiles import Grid, Strip, cut, grid
from segdiff_jax.sampler import AXIS, Answerer, row_key, sample_rows
from segdiff_jax.step import Params


class Layout(NamedTuple):
    """How the rows of a call lie on the devices; one compiled program serves all calls of a layout.

    Attributes:
      tiles: in a call, padded to a multiple of the devices.
      rows: (tile, generation) pairs in a call, padded to a multiple of devices * at_once.
      at_once: rows a device denoises together.
    """

    tiles: int
    rows: int
    at_once: int


def layout(tiles: int, generations: int, devices: int, limit: int) -> Layout:
    """Spreads the rows evenly over the devices, at most `limit` at once on each of them, or two.

    Two at least, because XLA compiles a batch of one to other arithmetic: its last bits differ.
    """
    share = -(-tiles * generations // devices)  # rows of a device, rounded up
    rounds = -(-share // limit)
    at_once = max(2, -(-share // rounds))
    return Layout(-(-tiles // devices) * devices, devices * rounds * at_once, at_once)


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


class Band(NamedTuple):
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
      sampler: see `Answerer`.
      params: replicated over the mesh.
      mesh: of all devices.
      generations: S.
      tile, stride: larger images are cut, see `data.tiles`; tile 0: never.
      limit: rows that one device denoises together; bounds memory.
      multiple: what the sides of the network's input must be multiples of.
    """

    sampler: Answerer
    params: Params
    mesh: Mesh
    generations: int
    tile: int
    stride: int
    limit: int
    multiple: int
    _programs: dict[int, Callable] = field(default_factory=dict, repr=False)

    def __call__(self, images: Iterable[np.ndarray], key: jax.Array) -> Iterator[np.ndarray]:
        """Yields the generations of each image in turn, [S, H, W] float32.

        They are soft masks (x0 + 1) / 2, about 0..1 and not clipped: `averaging.average` resizes,
        clips and averages, in this order. With the same key a generation is the same whatever the
        number of generations, devices or rows at once (bit-equal on CPU).

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

    def bands(self, images: Iterable[np.ndarray], key: jax.Array, first: int = 0) -> Iterator[Band]:
        """Yields what `__call__` does in bands of rows, holding no more than a row of tiles.

        Args:
          images: as in `__call__`.
          key: as in `__call__`.
          first: the number of the first image, which its noise depends on.
        """
        most = max(1, self.mesh.size * self.limit // self.generations)
        strip: Strip | None = None
        for _, run in groupby(self._tiles(images, first), lambda tile: tile.pixels.shape):
            plan = None
            for group in chunks(run, most):
                if plan is None:  # powers of two, so that few programs serve any number of tiles
                    tiles = min(most, 1 << (len(group) - 1).bit_length())
                    plan = layout(tiles, self.generations, self.mesh.size, self.limit)
                for tile, answer in zip(group, self._run(group, plan, key), strict=True):
                    strip = strip or Strip(tile.grid, answer.shape[:-2])
                    if (band := strip.add(answer)) is None:
                        continue
                    last = band.top + band.values.shape[-2] == tile.grid.shape[0]
                    yield Band(tile.image - first, band.top, band.values, last)
                    strip = None if last else strip

    def _tiles(self, images: Iterable[np.ndarray], first: int) -> Iterator[Tile]:
        for number, image in enumerate(images, first):
            places = grid(image.shape, self.tile, self.stride, self.multiple)
            for corner, pixels in zip(places.corners, cut(image, places), strict=True):
                yield Tile(number, corner, pixels, places)

    def _run(self, group: list[Tile], plan: Layout, key: jax.Array) -> np.ndarray:
        """Draws all generations of a group of tiles of one size: [N, S, h, w]."""
        n, S = len(group), self.generations
        # padding repeats what is there: the rows cost the same and are thrown away
        chosen = np.arange(plan.tiles) % n
        pixels = np.stack([group[i].pixels for i in chosen])
        index, generation = np.divmod(np.arange(plan.rows) % (n * S), S)
        image = np.array([group[i].image for i in index])
        corners = np.array([group[i].corner for i in index], np.int32)
        keys = jax.vmap(row_key, (None, 0, 0))(key, image, generation)
        rows = pixels, index.astype(np.int32), np.asarray(jax.random.key_data(keys)), corners
        if plan.at_once not in self._programs:
            self._programs[plan.at_once] = self._program(plan.at_once)
        program, rows = self._programs[plan.at_once], parallel.split(rows, self.mesh)
        # which compiles the program, or waits for the devices for as long as many steps take
        out = interruption.interruptible(lambda: parallel.gather(program(self.params, *rows)))
        return out[: n * S].reshape(n, S, *out.shape[1:])

    def _program(self, at_once: int) -> Callable:
        step = partial(sample_rows, sampler=self.sampler, at_once=at_once)
        in_specs = P(), P(AXIS), P(AXIS), P(AXIS), P(AXIS)
        return jax.jit(
            jax.shard_map(
                step, mesh=self.mesh, in_specs=in_specs, out_specs=P(AXIS), check_vma=False
            )
        )
