"""Samples one mask of one tile (paper, Alg. 1), and all rows that a device samples in a call."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax import diffusion
from segdiff_jax.data.channels import Channels
from segdiff_jax.data.example import Array, by_channel, normalise, to_probability
from segdiff_jax.models.segdiff import Params, SegDiff, call
from segdiff_jax.runtime import distributed


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskSampler(ABC):
    """Encodes a tile and samples one mask per key.

    Attributes:
      model: the network.
      mean, std: of the image's channels, in 0..255.
      channels: of the masks; as many as the network's.
      random: whether the generations are samples of masks, whose spread is their uncertainty; if
        not, their values are the network's own probabilities.
    """

    model: SegDiff
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: Channels = Channels()
    random: ClassVar[bool]

    def encode(self, params: Params, tiles: jax.Array) -> jax.Array:
        """Computes G(I) of tiles, [N, h, w, 3] uint8 -> [N, h, w, C]; all samples share it."""
        return call(self.model, "encode", params, normalise(tiles, self.mean, self.std))

    @abstractmethod
    def sample(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> jax.Array:
        """Samples one generation: a soft mask [H, W], about 0..1; of K > 1 channels [K, H, W].

        Args:
          params: of the model.
          features: G of the tile, [h, w, C].
          key: of the image and the generation.
          corner: [2] int32, the tile's top left pixel in the image's field of noise.
        """


@dataclass(frozen=True, eq=False, kw_only=True)
class DiffusionSampler(MaskSampler):
    """Samples by the reverse process of diffusion (paper, Alg. 1).

    Attributes:
      schedule: of the forward process.
      prediction: what the network's output parameterises.
      steps: the reverse process.
      trajectory: whether `sample` returns the estimates of x0 after each of n steps, [n, H, W], in
        place of the mask [H, W], which is the last of them.
      drawn: whether each pixel of an estimate of x0 is drawn, -1 or +1 by its probability.
    """

    schedule: diffusion.Schedule
    prediction: diffusion.Prediction
    steps: diffusion.Steps
    trajectory: bool = False
    drawn: bool = False
    random: ClassVar[bool] = True

    def sample(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> jax.Array:
        """Samples one generation from noise; see `MaskSampler` and `trajectory`."""
        run = diffusion.estimates if self.trajectory else diffusion.sample
        return to_probability(run(*self.chain(params, features, key, corner)))

    def chain(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> tuple[diffusion.Steps, diffusion.Denoiser, diffusion.Noise]:
        """Returns the reverse process of one generation; arguments as those of `sample`."""
        height, width = (side * self.model.factor for side in features.shape[:2])
        noise = diffusion.field(key, corner, (height, width), self.channels.count)

        def denoise(x_t: jax.Array, t: jax.Array) -> diffusion.Estimate:
            read = self.prediction.input(self.schedule, x_t, t)
            output = call(self.model, "denoise", params, read[None], t[None], features[None])
            estimate = self.prediction.read(self.schedule, x_t, t, output[0])
            if not self.drawn:
                return estimate
            u = jax.scipy.stats.norm.cdf(noise(len(self.steps.t) + t))  # used by no other step
            x0 = jnp.where(2 * u - 1 < estimate.x0, 1.0, -1.0)
            return self.prediction.given(self.schedule, x_t, t, x0)

        return self.steps, denoise, noise


@dataclass(frozen=True, eq=False, kw_only=True)
class MarginalSampler(MaskSampler):
    """Computes the probability of each pixel by one pass at t = T, of pure noise.

    A network that is trained by cross-entropy, or squared error of x0, learns there what a network
    without x_t learns: the marginal distribution of each pixel.

    Attributes:
      schedule: of the forward process.
      prediction: what the network's output parameterises.
    """

    schedule: diffusion.Schedule
    prediction: diffusion.Prediction
    random: ClassVar[bool] = False

    def sample(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> jax.Array:
        """Returns the probability of each pixel [H, W], of the noise of this key."""
        height, width = (side * self.model.factor for side in features.shape[:2])
        noise = diffusion.field(key, corner, (height, width), self.channels.count)
        x_T, T = noise(0), jnp.int32(self.schedule.T)
        read = self.prediction.input(self.schedule, x_T, T)
        output = call(self.model, "denoise", params, read[None], T[None], features[None])
        return to_probability(self.prediction.read(self.schedule, x_T, T, output[0]).x0)


@dataclass(frozen=True, eq=False, kw_only=True)
class OneShotSampler(MaskSampler):
    """Computes the probability of each pixel in one pass of the network."""

    random: ClassVar[bool] = False

    def sample(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> jax.Array:
        """Returns the probability of each pixel [H, W]; key and corner do not matter."""
        logits = call(self.model, "denoise", params, None, None, features[None])
        return jax.nn.sigmoid(by_channel(logits[0]))


def row_key(key: jax.Array, image: Array | np.uint32, generation: Array | np.uint32) -> jax.Array:
    """Returns the key of a field of noise; it depends on (seed, image, generation) alone."""
    return jax.random.fold_in(jax.random.fold_in(key, image), generation)


def sample_rows(
    params: Params,
    iterations: jax.Array,
    tiles: jax.Array,
    tile_index: jax.Array,
    key_data: jax.Array,
    corners: jax.Array,
    *,
    sampler: MaskSampler,
    tiles_per_iteration: int,
    rows_per_iteration: int,
) -> jax.Array:
    """Samples one device's rows of a call: encodes its tiles, gathers all features, samples.

    Args:
      params: of the model, replicated.
      iterations: [1, 2] int32, iterations of the encoder and of the sampler; padding beyond them is
        not computed.
      tiles: [N / devices, h, w, 3] uint8, this device's.
      tile_index: [R / devices] int32, which of the N tiles each row is of.
      key_data: [R / devices, ...] uint32, the key of each row.
      corners: [R / devices, 2] int32, the corner of each row's tile in its image.
      sampler: of the masks.
      tiles_per_iteration: tiles that are encoded in one batch.
      rows_per_iteration: rows that are denoised in one batch.

    Returns:
      [R / devices, h, w] soft masks, of K > 1 channels [R / devices, K, h, w]; or whatever
      `MaskSampler.sample` returns for each row.
    """

    def encode(tile: jax.Array) -> jax.Array:
        return sampler.encode(params, tile[None])[0]

    def row(tile: jax.Array, key: jax.Array, corner: jax.Array) -> jax.Array:
        return sampler.sample(params, features[tile], jax.random.wrap_key_data(key), corner)

    features = map_batches(encode, (tiles,), iterations[0, 0], tiles_per_iteration)
    features = jax.lax.all_gather(features, distributed.AXIS, tiled=True)  # [N, h, w, C]
    return map_batches(row, (tile_index, key_data, corners), iterations[0, 1], rows_per_iteration)


def map_batches(
    function: Callable[..., jax.Array],
    rows: tuple[jax.Array, ...],
    iterations: jax.Array,
    batch: int,
) -> jax.Array:
    """Maps a function over rows, `batch` of them an iteration; rows beyond the last become zeros.

    The number of iterations is an operand, not a constant: a compiler that knows of a single
    iteration drops the loop and fuses its body with its surroundings, which changes the last bits.
    """
    mapped = jax.jit(jax.vmap(function), inline=True)  # traced once, for its shape and for the loop

    def batch_of(i: jax.Array) -> list[jax.Array]:
        return [jax.lax.dynamic_slice_in_dim(x, i * batch, batch) for x in rows]

    def body(i: jax.Array, out: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(out, mapped(*batch_of(i)), i * batch, 0)

    shape = jax.eval_shape(mapped, *batch_of(jnp.int32(0)))
    out = jnp.zeros((len(rows[0]), *shape.shape[1:]), shape.dtype)
    return jax.lax.fori_loop(0, iterations, body, out)
