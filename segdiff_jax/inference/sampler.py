"""One generation of one tile, and all those that a device draws (paper, Alg. 1)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from segdiff_jax.data.example import Array, normalise, to_probability
from segdiff_jax.diffusion import (
    Denoiser,
    Estimate,
    Noise,
    Prediction,
    Schedule,
    Steps,
    estimates,
    field,
    sample,
)
from segdiff_jax.models.segdiff import Params, SegDiff, call
from segdiff_jax.runtime import distributed

AXIS = distributed.AXIS


class MaskSampler(ABC):
    """What turns a tile into a mask, whatever the network answers.

    Attributes:
      model: the network.
      mean, std: of the image's channels, in 0..255.
      random: whether another key draws another mask; if not, one mask says all, and its values
        are the network's own probabilities.
    """

    model: SegDiff
    mean: tuple[float, ...]
    std: tuple[float, ...]
    random: ClassVar[bool]

    def encode(self, params: Params, tiles: jax.Array) -> jax.Array:
        """Tiles [N, h, w, 3] uint8 -> G(I), [N, h, w, C]; once, whatever is then drawn."""
        normalised = normalise(tiles, self.mean, self.std)
        return call(self.model, "encode", params, normalised)

    @abstractmethod
    def sample(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> jax.Array:
        """One generation: soft mask [H, W], about 0..1.

        Args:
          params: of the model.
          features: of the tile, [h, w, C].
          key: of the image and the generation.
          corner: [2] int32, where the tile lies in the image's field of noise.
        """


@dataclass(frozen=True, eq=False)
class DiffusionSampler(MaskSampler):
    """The reverse process of diffusion (paper, Alg. 1).

    Attributes:
      model, mean, std, random: see `MaskSampler`.
      schedule: of the forward process.
      prediction: what the network's output means.
      steps: the reverse process.
    """

    model: SegDiff
    schedule: Schedule
    prediction: Prediction
    steps: Steps
    mean: tuple[float, ...]
    std: tuple[float, ...]
    random: ClassVar[bool] = True

    def sample(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> jax.Array:
        """One generation, from noise; see `MaskSampler`."""
        return to_probability(sample(*self.chain(params, features, key, corner)))

    def chain(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> tuple[Steps, Denoiser, Noise]:
        """Returns the reverse process of one generation; arguments as those of `draw`."""

        def denoise(x_t: jax.Array, t: jax.Array) -> Estimate:
            output = call(self.model, "denoise", params, x_t[None], t[None], features[None])
            return self.prediction.read(self.schedule, x_t, t, output[0])

        height, width = (side * self.model.factor for side in features.shape[:2])
        return self.steps, denoise, field(key, corner, (height, width))


class TrajectorySampler(DiffusionSampler):
    """A sampler that also tells how it came to its mask."""

    def sample(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> jax.Array:
        """What one generation would be if it ended after each step: [n, H, W], about 0..1."""
        return to_probability(estimates(*self.chain(params, features, key, corner)))


def row_key(key: jax.Array, image: Array, generation: Array) -> jax.Array:
    """Returns the key of a field of noise: it belongs to (seed, image, generation), no layout."""
    return jax.random.fold_in(jax.random.fold_in(key, image), generation)


def sample_rows(
    params: Params,
    rounds: jax.Array,
    tiles: jax.Array,
    index: jax.Array,
    key_data: jax.Array,
    corners: jax.Array,
    *,
    sampler: MaskSampler,
    tiles_at_once: int,
    rows_at_once: int,
) -> jax.Array:
    """One device's share: encodes its tiles, shares the features, draws its rows.

    Args:
      params: of the model, replicated.
      rounds: [1, 2] int32, how often to encode and to draw; what is left over is not computed.
      tiles: [N / devices, h, w, 3] uint8, this device's.
      index: [R / devices] int32, which of the N tiles each row is of.
      key_data: [R / devices, ...] uint32, a key for each row.
      corners: [R / devices, 2] int32, the place of each row's tile in its image.
      sampler: what to do with them.
      tiles_at_once: how many are encoded together.
      rows_at_once: how many are denoised together.

    Returns:
      [R / devices, h, w] soft masks, or what else `draw` gives for a row.
    """

    def encode(tile: jax.Array) -> jax.Array:
        return sampler.encode(params, tile[None])[0]

    features = in_rounds(encode, (tiles,), rounds[0, 0], tiles_at_once)
    features = jax.lax.all_gather(features, AXIS, tiled=True)  # [N, h, w, C]

    def row(i: jax.Array, key: jax.Array, corner: jax.Array) -> jax.Array:
        return sampler.sample(params, features[i], jax.random.wrap_key_data(key), corner)

    return in_rounds(row, (index, key_data, corners), rounds[0, 1], rows_at_once)


def in_rounds(
    function: Callable[..., jax.Array],
    rows: tuple[jax.Array, ...],
    rounds: jax.Array,
    at_once: int,
) -> jax.Array:
    """Returns `function` of each row, `at_once` rows together; zeros for those after the rounds.

    How many rounds there are is no constant, because a compiler that knows of one round only drops
    the loop and fuses its body with what is around it: the last bits are others then.
    """
    many = jax.vmap(function)

    def part(i: jax.Array) -> list[jax.Array]:
        return [jax.lax.dynamic_slice_in_dim(x, i * at_once, at_once) for x in rows]

    def add(i: jax.Array, out: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(out, many(*part(i)), i * at_once, 0)

    one = jax.eval_shape(lambda: many(*part(jnp.int32(0))))
    out = jnp.zeros((len(rows[0]), *one.shape[1:]), one.dtype)
    return jax.lax.fori_loop(0, rounds, add, out)


@dataclass(frozen=True, eq=False)
class OneShotSampler(MaskSampler):
    """One pass of the network; attributes as in `sampler.MaskSampler`."""

    model: SegDiff
    mean: tuple[float, ...]
    std: tuple[float, ...]
    random: ClassVar[bool] = False

    def sample(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> jax.Array:
        """The probability of each pixel, whatever the key and the corner; see `MaskSampler`."""
        logits = call(self.model, "denoise", params, None, None, features[None])
        return jax.nn.sigmoid(logits[0, ..., 0])
