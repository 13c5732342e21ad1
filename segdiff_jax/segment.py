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

from segdiff_jax import parallel
from segdiff_jax.data.example import Array, normalise, to_probability
from segdiff_jax.data.tiles import cut, paste
from segdiff_jax.diffusion import Estimate, Prediction, Schedule, Steps, sample
from segdiff_jax.models.segdiff import SegDiff, call
from segdiff_jax.step import Params

AXIS = parallel.AXIS


@dataclass(frozen=True, eq=False)
class Sampler:
    """Everything that turns features into a mask.

    Attributes:
      model: the network.
      schedule: of the forward process.
      prediction: what the network's output means.
      steps: the reverse process.
      mean, std: of the image's channels, in 0..255.
    """

    model: SegDiff
    schedule: Schedule
    prediction: Prediction
    steps: Steps
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def encode(self, params: Params, tiles: jax.Array) -> jax.Array:
        """Tiles [N, h, w, 3] uint8 -> G(I), [N, h, w, C]; once, whatever is then drawn."""
        normalised = normalise(tiles, self.mean, self.std)
        return call(self.model, "encode", params, normalised)

    def draw(self, params: Params, features: jax.Array, key: jax.Array) -> jax.Array:
        """One generation from features [h, w, C] and one key: soft mask [h, w], about 0..1."""

        def denoise(x_t: jax.Array, t: jax.Array) -> Estimate:
            output = call(self.model, "denoise", params, x_t[None], t[None], features[None])
            return self.prediction.read(self.schedule, x_t, t, output[0])

        x0 = sample(self.steps, denoise, key, (*features.shape[:2], 1))
        return to_probability(x0)


def row_key(key: jax.Array, image: Array, generation: Array, tile: Array) -> jax.Array:
    """Returns the key of one row: noise depends on (seed, image, generation, tile), no layout."""
    for number in (image, generation, tile):
        key = jax.random.fold_in(key, number)
    return key


def sample_rows(
    params: Params,
    tiles: jax.Array,
    index: jax.Array,
    key_data: jax.Array,
    *,
    sampler: Sampler,
    at_once: int,
) -> jax.Array:
    """One device's share: encodes its tiles, shares the features, draws its rows.

    Args:
      params: of the model, replicated.
      tiles: [N / devices, h, w, 3] uint8, this device's.
      index: [R / devices] int32, which of the N tiles each row is of.
      key_data: [R / devices, ...] uint32, a key for each row.
      sampler: what to do with them.
      at_once: rows that are denoised together.

    Returns:
      [R / devices, h, w] soft masks.
    """
    features = sampler.encode(params, tiles)
    features = jax.lax.all_gather(features, AXIS, tiled=True)  # [N, h, w, C]

    def row(index_and_key: tuple[jax.Array, jax.Array]) -> jax.Array:
        i, key = index_and_key
        return sampler.draw(params, features[i], jax.random.wrap_key_data(key))

    return jax.lax.map(row, (index, key_data), batch_size=at_once)


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
    """A piece of an image: which image, which piece, the last of it?, pixels [h, w, 3] uint8."""

    image: int
    number: int
    last: bool
    pixels: np.ndarray


def chunks(tiles: Iterator[Tile], size: int) -> Iterator[list[Tile]]:
    """Yields the tiles in lists of this size; the last may be shorter."""
    while group := list(islice(tiles, size)):
        yield group


@dataclass(frozen=True, eq=False)
class Segmenter:
    """Draws `generations` masks of each image, on every device of the mesh.

    Attributes:
      sampler: see `Sampler`.
      params: replicated over the mesh.
      mesh: of all devices.
      generations: S.
      tile, stride: larger images are cut, see `data.tiles`; tile 0: never.
      limit: rows that one device denoises together; bounds memory.
    """

    sampler: Sampler
    params: Params
    mesh: Mesh
    generations: int
    tile: int
    stride: int
    limit: int
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
        shapes: dict[int, tuple[int, int]] = {}
        answers: list[np.ndarray] = []
        most = max(1, self.mesh.size * self.limit // self.generations)
        tiles = self._tiles(images, shapes)
        for _, run in groupby(tiles, lambda tile: tile.pixels.shape):
            plan = None
            for group in chunks(run, most):
                plan = plan or layout(len(group), self.generations, self.mesh.size, self.limit)
                for tile, answer in zip(group, self._run(group, plan, key), strict=True):
                    answers.append(answer)
                    if tile.last:
                        yield self._assemble(answers, shapes.pop(tile.image))
                        answers = []

    def _tiles(
        self, images: Iterable[np.ndarray], shapes: dict[int, tuple[int, int]]
    ) -> Iterator[Tile]:
        """Yields the tiles of the images in order, and notes the size of each image."""
        for i, image in enumerate(images):
            shapes[i] = image.shape[:2]
            whole = not self.tile or max(shapes[i]) <= self.tile
            pieces = image[None] if whole else cut(image, self.tile, self.stride)
            for j, pixels in enumerate(pieces):
                yield Tile(i, j, j == len(pieces) - 1, pixels)

    def _assemble(self, answers: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """The tiles' generations [S, h, w] -> the image's, [S, H, W]."""
        if len(answers) == 1 and answers[0].shape[1:] == shape:
            return answers[0]
        return paste(np.stack(answers, 1), shape, self.stride)

    def _run(self, group: list[Tile], plan: Layout, key: jax.Array) -> np.ndarray:
        """Draws all generations of a group of tiles of one size: [N, S, h, w]."""
        n, S = len(group), self.generations
        # padding repeats what is there: the rows cost the same and are thrown away
        chosen = np.arange(plan.tiles) % n
        pixels = np.stack([group[i].pixels for i in chosen])
        index, generation = np.divmod(np.arange(plan.rows) % (n * S), S)
        image = np.array([group[i].image for i in index])
        number = np.array([group[i].number for i in index])
        keys = jax.vmap(row_key, (None, 0, 0, 0))(key, image, generation, number)
        rows = pixels, index.astype(np.int32), np.asarray(jax.random.key_data(keys))
        if plan.at_once not in self._programs:
            self._programs[plan.at_once] = self._program(plan.at_once)
        out = self._programs[plan.at_once](self.params, *parallel.split(rows, self.mesh))
        out = parallel.gather(out)[: n * S]
        return out.reshape(n, S, *out.shape[1:])

    def _program(self, at_once: int) -> Callable:
        step = partial(sample_rows, sampler=self.sampler, at_once=at_once)
        in_specs = P(), P(AXIS), P(AXIS), P(AXIS)
        return jax.jit(
            jax.shard_map(
                step, mesh=self.mesh, in_specs=in_specs, out_specs=P(AXIS), check_vma=False
            )
        )
