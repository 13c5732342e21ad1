"""A trained run as a Python object: `model = segdiff_jax.load(workdir)`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
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
from segdiff_jax.factory import networks, samplers
from segdiff_jax.inference.averaging import uncertainty
from segdiff_jax.inference.sampler import DiffusionSampler
from segdiff_jax.inference.segmentation import ImageRows, Segmenter
from segdiff_jax.models.segdiff import Params, call
from segdiff_jax.runtime import cpu_devices, distributed


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about one image.

    Attributes:
      probability: [H, W] float32 in 0..1, the mean of the generations.
      mask: [H, W] uint8, 1 where the probability is above the threshold.
      uncertainty: [H, W] float32 in 0..0.5, the standard deviation of the generations, or what
        stands for it where nothing is drawn: see `averaging.uncertainty`.
      generations: [S, H, W] float32 in 0..1, single masks drawn from different noise; of a network
        that answers in one pass, its probability alone.
    """

    probability: np.ndarray
    mask: np.ndarray
    uncertainty: np.ndarray
    generations: np.ndarray


@dataclass(frozen=True, eq=False)
class Model:
    """The averaged weights of a run, ready to answer on every device of this process's job.

    Attributes:
      config: of the run, with the sampling settings that are used.
      step: updates the weights have seen.
      params: nested dictionaries of float32 arrays, replicated.
      segmenter: what draws the masks.
      threshold: of the probability, above which a pixel is foreground.
      seed: of the noise.
    """

    config: ConfigDict
    step: int
    params: Params
    segmenter: Segmenter
    threshold: float
    seed: int

    @property
    def random(self) -> bool:
        """Whether the masks are drawn from noise: not by networks that answer in one pass."""
        return self.segmenter.sampler.random

    def predict(self, image: np.ndarray, *, number: int = 0) -> Prediction:
        """Answers one image of any size; larger ones are cut into tiles that fade into each other.

        The program is compiled at the first image, and again for another size of tile.

        Args:
          image: [H, W, 3] RGB or [H, W] grey, uint8.
          number: chooses other noise for other images; the same number, the same answer.

        Raises:
          ValueError: the image is of another shape or type.
        """
        bands = self._single.bands([rgb(image)], self._key(), number)
        rows = [band.generations for band in bands]
        generations = np.clip(np.concatenate(rows, axis=1), 0.0, 1.0)
        probability = generations.mean(axis=0)
        return Prediction(
            probability,
            (probability > self.threshold).astype(np.uint8),
            uncertainty(generations, self.random),
            generations,
        )

    def bands(self, images: Iterable[np.ndarray], first: int = 0) -> Iterator[ImageRows]:
        """Yields finished rows of image after image, for images that do not fit into memory whole.

        Args:
          images: as for `predict`; read as they are needed.
          first: number of the first image, see `predict`.

        Returns:
          Bands from top to bottom, whose generations are about 0..1 and not clipped.
        """
        return self.segmenter.bands(map(rgb, images), self._key(), first)

    def eps(self, x_t: Array, t: Array, image: Array) -> jax.Array:
        """Returns the noise that the network finds in x_t: the function eps of the paper.

        A network that was trained to predict x0 or v is converted.

        Args:
          x_t: [N, H, W, 1] float32, the noisy mask; a clean one is -1 or +1.
          t: [N] int32 in 1..T.
          image: [N, H, W, 3] in 0..255; sides are multiples of 2^(levels - 1).

        Returns:
          [N, H, W, 1] float32.

        Raises:
          ValueError: the run is no diffusion.
        """
        return self._eps(self.params, x_t, t, image)

    @cached_property
    def _single(self) -> Segmenter:
        """One tile a call: compiled once, and nothing is wasted on small images."""
        return replace(self.segmenter, most=1, _programs={})

    @cached_property
    def _eps(self) -> Callable[..., jax.Array]:
        return jax.jit(partial(_eps, self.segmenter))

    def _key(self) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.seed), 3)


def _eps(
    segmenter: Segmenter, params: Params, x_t: jax.Array, t: jax.Array, image: jax.Array
) -> jax.Array:
    sampler = segmenter.sampler
    if not isinstance(sampler, DiffusionSampler):
        raise ValueError("this network finds masks in one pass: there is no noise to find")
    features = sampler.encode(params, image)
    output = call(sampler.model, "denoise", params, x_t, t, features)
    return sampler.prediction.read(sampler.schedule, x_t, t, output).eps


def rgb(image: Any) -> np.ndarray:
    """Returns an image as [H, W, 3].

    Raises:
      ValueError: it is neither [H, W, 3] nor [H, W], or not of bytes.
    """
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
    """Reads the averaged weights of a run, and turns the compilation cache on.

    Args:
      workdir: of the run, which holds config.json and checkpoints.
      generations: masks that are drawn of each image; None: as many as the run's config says.
      steps: reverse steps of each, 0: all T; None: as the run's config says.
      overlap: pixels that neighbouring tiles share; None: as the run's config says, or a quarter of
        a tile where it says none.
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
    c = config.sampling
    if c.tile == 0:  # an image of any size must fit into memory
        c.tile = config.augment.crop or 256
        c.stride = c.tile
    if overlap is None:
        overlap = c.tile - c.stride or c.tile // 4
    if not 0 <= overlap < c.tile:
        raise UserError(f"overlap={overlap}: must be at least 0 and less than a tile, {c.tile}")
    c.stride = c.tile - overlap
    for name, value in (("generations", generations), ("steps", steps)):
        if value is not None:
            c[name] = value
    if steps is not None and networks.one_pass(config):
        raise UserError(f"steps={steps}: {workdir} holds a network that answers in one pass")
    if seed is not None:
        config.seed = seed
    validate.check(config)
    distributed.start(devices_of_cpu=cpu_devices.choose_device_count(wanted=config.job.cpu_devices))
    mesh = distributed.all_devices()
    step, params = trained_run.restore_ema(config, workdir, mesh)
    segmenter = samplers.segmenter(config, params, mesh)
    return Model(config, step, params, segmenter, threshold, config.seed)
