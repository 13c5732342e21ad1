"""Loads a trained run as a Python object: `model = segdiff_jax.load(workdir)`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from segdiff_jax import trained_run
from segdiff_jax.checkpoint import run_config
from segdiff_jax.config import validate
from segdiff_jax.data.example import Array
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.factory import networks
from segdiff_jax.inference.averaging import uncertainty
from segdiff_jax.inference.sampler import DiffusionSampler, MaskSampler
from segdiff_jax.inference.segmentation import ImageRows, Segmenter
from segdiff_jax.models.segdiff import Params, call
from segdiff_jax.runtime import cpu_devices, distributed


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one image.

    Attributes:
      probability: [H, W] float32 in 0..1, the mean of the generations.
      mask: [H, W] uint8, 1 where the probability is above the threshold.
      uncertainty: [H, W] float32 in 0..0.5, the standard deviation of the generations; of a
        one-pass network see `averaging.uncertainty`.
      generations: [S, H, W] float32 in 0..1, single masks sampled from different noise; of a
        one-pass network its probability alone.
    """

    probability: np.ndarray
    mask: np.ndarray
    uncertainty: np.ndarray
    generations: np.ndarray


@dataclass(frozen=True, eq=False)
class Model:
    """Predicts with the averaged weights of a run, on every device of this process's job.

    Attributes:
      config: of the run, with the sampling settings in use.
      step: training steps the weights have seen.
      segmenter: samples the masks.
      threshold: of the probability, above which a pixel is foreground.
    """

    config: ConfigDict
    step: int
    segmenter: Segmenter
    threshold: float

    @property
    def params(self) -> Params:
        """Nested dictionaries of float32 arrays, replicated over the devices."""
        return self.segmenter.params

    @property
    def random(self) -> bool:
        """Whether the masks are sampled from noise; False for one-pass networks."""
        return self.segmenter.sampler.random

    def predict(self, image: np.ndarray, *, number: int = 0) -> Prediction:
        """Predicts one image of any size; larger ones are cut into tiles that are blended.

        The program is compiled at the first image, and again for another size of tile.

        Args:
          image: [H, W, 3] RGB or [H, W] grey, uint8.
          number: selects the noise; the same number gives the same prediction.

        Raises:
          ValueError: the image is of another shape or type.
        """
        # one tile a call, so that small images bring no padding
        segmenter = replace(self.segmenter, max_tiles_per_call=1)
        parts = [rows.generations for rows in segmenter.bands([rgb(image)], self._key(), number)]
        generations = np.clip(np.concatenate(parts, axis=1), 0.0, 1.0)
        probability = generations.mean(axis=0)
        mask = (probability > self.threshold).astype(np.uint8)
        return Prediction(probability, mask, uncertainty(generations, self.random), generations)

    def bands(self, images: Iterable[np.ndarray], first: int = 0) -> Iterator[ImageRows]:
        """Yields finished rows of image after image, for images too large for memory.

        Args:
          images: as for `predict`; read one by one.
          first: number of the first image, see `predict`.

        Returns:
          Rows from top to bottom, whose generations are about 0..1 and not clipped.
        """
        return self.segmenter.bands(map(rgb, images), self._key(), first)

    def eps(self, x_t: Array, t: Array, image: Array) -> jax.Array:
        """Returns the network's estimate of the noise in x_t: the function eps of the paper.

        The output of a network that was trained to predict x0 or v is converted.

        Args:
          x_t: [N, H, W, 1] float32, the noisy mask; a clean one is -1 or +1.
          t: [N] int32 in 1..T.
          image: [N, H, W, 3] in 0..255; sides are multiples of 2^(levels - 1).

        Returns:
          [N, H, W, 1] float32.

        Raises:
          ValueError: the network predicts masks in one pass, without diffusion.
        """
        return _eps(self.segmenter.sampler, self.params, x_t, t, image)

    def _key(self) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.config.seed), 3)


@partial(jax.jit, static_argnums=0)
def _eps(
    sampler: MaskSampler, params: Params, x_t: jax.Array, t: jax.Array, image: jax.Array
) -> jax.Array:
    if not isinstance(sampler, DiffusionSampler):
        raise ValueError("this network finds masks in one pass: there is no noise to find")
    output = call(sampler.model, "denoise", params, x_t, t, sampler.encode(params, image))
    return sampler.prediction.read(sampler.schedule, x_t, t, output).eps


def rgb(image: Any) -> np.ndarray:
    """Returns an image as [H, W, 3]; raises ValueError unless it is [H, W, 3] or [H, W], uint8."""
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise ValueError(f"the image is {array.dtype}; it must be uint8, 0..255")
    if array.ndim == 2:
        return np.repeat(array[..., None], 3, axis=-1)
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(f"the image is {array.shape}; it must be [H, W, 3] or [H, W]")
    return array


def load(
    workdir: str | PathLike,
    *,
    generations: int | None = None,
    steps: int | None = None,
    overlap: int | None = None,
    threshold: float = 0.5,
    seed: int | None = None,
) -> Model:
    """Loads the averaged weights of a run, and turns the compilation cache on.

    Args:
      workdir: of the run, which holds config.json and checkpoints.
      generations: masks sampled of each image; None: as in the run's config.
      steps: reverse steps of each, 0: all T; None: as in the run's config.
      overlap: pixels that neighbouring tiles share; None: as in the run's config, or a quarter of a
        tile if it has no tiles.
      threshold: of the probability, in 0..1.
      seed: of the noise; None: the run's.

    Raises:
      UserError: there is no such run, or a value is out of range.
    """
    workdir = Path(workdir).expanduser()
    if not (workdir / "config.json").is_file():
        raise UserError(f"{workdir} holds no run: it has no config.json", BAD_CHECKPOINT)
    if not 0 <= threshold < 1:
        raise UserError(f"threshold={threshold}: must be at least 0 and below 1")
    config = run_config.read_config(workdir)
    if steps is not None and networks.one_pass(config):
        raise UserError(f"steps={steps}: {workdir} holds a network that predicts in one pass")
    set_tiles(config, overlap)
    given = {"sampling.generations": generations, "sampling.steps": steps, "seed": seed}
    config.update_from_flattened_dict({k: v for k, v in given.items() if v is not None})
    validate.check(config)
    distributed.start(devices_of_cpu=cpu_devices.choose_device_count(wanted=config.job.cpu_devices))
    run = trained_run.restore(config, workdir, distributed.all_devices())
    return Model(config, run.step, run.segmenter, threshold)


def set_tiles(config: ConfigDict, overlap: int | None) -> None:
    """Sets config.sampling so that images of any size fit into memory; see `load`."""
    c = config.sampling
    if c.tile == 0:
        c.tile = c.stride = config.augment.crop or 256
    if overlap is None:
        overlap = c.tile - c.stride or c.tile // 4
    if not 0 <= overlap < c.tile:
        raise UserError(f"overlap={overlap}: must be at least 0 and less than a tile, {c.tile}")
    c.stride = c.tile - overlap
