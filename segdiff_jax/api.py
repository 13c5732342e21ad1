"""Loads trained networks as a Python object: `model = segdiff_jax.load(workdir)`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from segdiff_jax import trained_run
from segdiff_jax.certainty import answers, evidence, store
from segdiff_jax.certainty.answers import RatedMask
from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.certainty.prediction import Prediction
from segdiff_jax.checkpoint import places, run_config
from segdiff_jax.config import validate
from segdiff_jax.data.example import Array
from segdiff_jax.data.image_io import bands
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.factory import networks, samplers
from segdiff_jax.inference.averaging import uncertainty
from segdiff_jax.inference.predictor import PredictedRows, Predictor
from segdiff_jax.inference.sampler import DiffusionSampler, MaskSampler
from segdiff_jax.inference.segmentation import Segmenter
from segdiff_jax.models.segdiff import Params, at_precision, call
from segdiff_jax.runtime import cpu_devices, distributed

# settings of the reverse process, which networks of one pass lack
OF_CHAINS = ("steps", "samples", "tolerance", "generations", "fusion")


@dataclass(frozen=True, eq=False)
class Model:
    """Predicts with the averaged weights of runs, on every device of this process's job.

    Attributes:
      configs: of each run, with the sampling settings in use.
      steps: training steps that the weights of each run have seen.
      predictor: of the probability and the samples.
      threshold: of the probability, above which a pixel is foreground.
      calibration: of the certainty of its predictions; None: it has none.
      uncalibrated: why it has none, for people.
      calibrated: whether the probability is the calibrated one, and the threshold that of the fit.
    """

    configs: tuple[ConfigDict, ...]
    steps: tuple[int, ...]
    predictor: Predictor
    threshold: float
    calibration: Calibration | None = None
    uncalibrated: str = ""
    calibrated: bool = False

    @property
    def config(self) -> ConfigDict:
        """The config of the first run, whose tiles and seed all use."""
        return self.configs[0]

    @property
    def step(self) -> int:
        """Training steps that the weights of the first run have seen."""
        return self.steps[0]

    @property
    def segmenter(self) -> Segmenter:
        """What makes the probability of the first run."""
        return self.predictor.runs[0].segmenter

    @property
    def params(self) -> Params:
        """Nested dictionaries of float32 arrays, of the first run, replicated over the devices."""
        return self.segmenter.params

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes that the networks learnt; () if they learnt none."""
        return self.segmenter.sampler.channels.classes

    @property
    def overlap(self) -> bool:
        """Whether a pixel may belong to several of the classes."""
        return self.segmenter.sampler.channels.overlap

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The names of the channels of images; () if they are RGB."""
        return networks.image_channels(self.config)

    @property
    def random(self) -> bool:
        """Whether the generations are masks sampled from noise, not probabilities."""
        return self.predictor.random

    def predict(self, image: Any, *, number: int = 0) -> Prediction:
        """Predicts one image of any size; larger ones are cut into tiles that are blended.

        The program is compiled at the first image, and again for another size of tile.

        Args:
          image: [H, W, 3] RGB, [H, W, 1] or [H, W] grey, of uint8, uint16 or floats; or an image of
            Pillow, of any mode, as it is: not turned by its EXIF orientation. See
            `image_io.arrays.to_rgb`.
          number: selects the noise; the same number gives the same prediction.

        Raises:
          ValueError: the image is of another shape or type, or transparent.
        """
        # one tile a call, so that small images bring no padding
        pixels = self._pixels(image)
        rows = self.predictor.one_tile_a_call().predict(pixels, self.key(), number)
        generations, probability = np.clip(rows.generations, 0.0, 1.0), self.shown(rows.probability)
        each = rows.shown_shares(self.shown) if self.overlap else None
        return Prediction(
            probability,
            (probability > self.threshold).astype(np.uint8),
            uncertainty(generations, self.random),
            generations,
            rows.samples,
            evidence.evidence(pixels, rows, self.random),
            self.calibration,
            self.threshold,
            each,
        )

    def shown(self, probability: np.ndarray) -> np.ndarray:
        """Returns the probability that a prediction has of that of the network, [...]."""
        if not self.calibrated or self.calibration is None or self.calibration.pixels is None:
            return probability
        return self.calibration.pixels(probability)

    def rate(self, image: np.ndarray, mask: np.ndarray, *, number: int = 0) -> RatedMask:
        """Rates a mask from elsewhere: another tool's, or an annotator's.

        Args:
          image: as for `predict`.
          mask: [H, W], foreground is above 0.
          number: as for `predict`.

        Raises:
          ValueError: the image is of another shape or type, or the mask of another size.
        """
        return self.predict(image, number=number).rate(mask)

    def risk_thresholds(self, risk: float) -> tuple[float, float]:
        """Returns the thresholds of the masks of a risk, inner and outer; see `Prediction.bounds`.

        Raises:
          UserError: the model is not calibrated, or not with enough pictures for this risk.
        """
        if self.calibrated:
            raise UserError(f"risk={risk}: its thresholds are not of the calibrated probability")
        return answers.risk_thresholds(risk, self.calibration)

    def settings(self) -> dict[str, Any]:
        """Returns what predictions depend on besides the image, the tiles and the seed."""
        return samplers.of_predictions(self.steps, self.configs, self.predictor)

    def bands(self, images: Iterable[Any], first: int = 0) -> Iterator[PredictedRows]:
        """Yields finished rows of image after image, for images too large for memory.

        Args:
          images: as for `predict`; read one by one.
          first: number of the first image, see `predict`.

        Returns:
          Rows from top to bottom, whose generations are about 0..1 and not clipped. With a
          tolerance of the samples, or the fusion "staple" or "medoid", all rows of an image come
          together, and it has to fit into memory.
        """
        return self.predictor.bands(map(self._pixels, images), self.key(), first)

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
        sampler = self.segmenter.sampler
        return at_precision(sampler.model.precision, _eps)(sampler, self.params, x_t, t, image)

    def _pixels(self, image: Any) -> np.ndarray:
        c = self.config
        return bands.of_array(image, self.channel_names, c.reading.value_range)

    def key(self) -> jax.Array:
        """Returns the key of all noise."""
        return samplers.prediction_key(self.config)


@partial(jax.jit, static_argnums=0)
def _eps(
    sampler: MaskSampler, params: Params, x_t: jax.Array, t: jax.Array, image: jax.Array
) -> jax.Array:
    if not isinstance(sampler, DiffusionSampler):
        raise ValueError("this network finds masks in one pass: there is no noise to find")
    prediction = sampler.prediction
    read = prediction.input(sampler.schedule, x_t, t)
    output = call(sampler.model, "denoise", params, read, t, sampler.encode(params, image))
    return prediction.read(sampler.schedule, x_t, t, output).eps


def load(
    workdir: str | PathLike | Sequence[str | PathLike],
    *,
    budget: str | None = None,
    samples: int | None = None,
    tolerance: float | None = None,
    generations: int | None = None,
    fusion: str | None = None,
    separate: str | None = None,
    steps: int | None = None,
    overlap: int | None = None,
    threshold: float | None = None,
    seed: int | None = None,
    calibrated: bool = False,
) -> Model:
    """Loads the averaged weights of a run, or of several; they share the first one's tiles, seed.

    Args:
      workdir: a run, or the folder of an exported model; as a string also the name of one of the
        package, or hf://OWNER/NAME; or a list of such. A path is always a folder.
      budget: what makes the probability: "fast", "balanced" or "paper"; None: as in the config of
        each, as all that follows. The compilation cache is turned on.
      samples: masks of each image besides, at most; drawn by the runs of diffusion in turn.
      tolerance: of their mean area, with which fewer are enough.
      generations: masks that "paper" makes the probability of.
      fusion: how it does.
      separate: objects that touch: "auto", as learnt; "distance", by that to the background.
      steps: reverse steps of each mask, 0: all T.
      overlap: pixels that neighbouring tiles share; None: a quarter if the run has no tiles.
      threshold: of the probability, in 0..1; None: 0.5, or that of the calibration if `calibrated`.
      seed: of the noise.
      calibrated: whether the probability is the calibrated one, see docs/certainty.md.

    Raises:
      UserError: there is no such run, or a value is out of range; see config/schema.py.
    """
    of = {"budget": budget, "samples": samples, "tolerance": tolerance, "fusion": fusion}
    of |= {"generations": generations, "steps": steps, "separate": separate}
    configs = _configs(_folders(workdir), of, overlap, seed)
    return _with_calibration(_restore(configs), next(iter(configs)), threshold, calibrated)


def _folders(workdir: str | PathLike | Sequence[str | PathLike]) -> list[Path]:
    return [_folder(n) for n in ([workdir] if isinstance(workdir, str | PathLike) else workdir)]


def _folder(name: str | PathLike) -> Path:
    """Returns the folder of a network; a string may name one that is no folder."""
    plain = isinstance(name, str) and not {"/", "\\"} & {*name}
    if isinstance(name, str) and (plain or places.is_name(name)):
        return places.find(name, BAD_CHECKPOINT)
    return Path(name).expanduser()


def _with_calibration(
    model: Model, workdir: Path, threshold: float | None, calibrated: bool
) -> Model:
    """Returns the model with the calibration of a run, if it has one for its settings."""
    if threshold is not None and not 0 <= threshold < 1:
        raise UserError(f"threshold={threshold}: must be at least 0 and below 1")
    fitted, reason = store.read(workdir, model.settings())
    if calibrated and (fitted is None or fitted.pixels is None):
        raise UserError(f"calibrated=True: {reason or 'its calibration has no pixels'}")
    if threshold is None:
        pixels = fitted.pixels if calibrated and fitted is not None else None
        threshold = 0.5 if pixels is None else pixels.threshold
    more = {"calibration": fitted, "uncalibrated": reason, "calibrated": calibrated}
    return replace(model, threshold=threshold, **more)


def _restore(configs: dict[Path, ConfigDict]) -> Model:
    """Restores runs to all devices."""
    wanted = next(iter(configs.values())).job.cpu_devices
    distributed.start(devices_of_cpu=cpu_devices.choose_device_count(wanted=wanted))
    mesh = distributed.all_devices()
    restored = [trained_run.restore_ema(config, place, mesh) for place, config in configs.items()]
    steps, params = zip(*restored, strict=True)
    predictor = samplers.predictor(list(zip(configs.values(), params, strict=True)), mesh)
    return Model(tuple(configs.values()), steps, predictor, threshold=0.5)


def _configs(
    workdirs: Sequence[Path], sampling: dict[str, Any], overlap: int | None, seed: int | None
) -> dict[Path, ConfigDict]:
    """Returns the configs of runs, with the settings that `load` was given."""
    if not workdirs or len(set(workdirs)) < len(workdirs):
        raise UserError(f"workdir={[*map(str, workdirs)]}: must name one run, or several once each")
    for place in workdirs:
        if not (place / "config.json").is_file():
            raise UserError(f"{place} holds no run: it has no config.json", BAD_CHECKPOINT)
    configs = {place: run_config.read_config(place) for place in workdirs}
    first = configs[workdirs[0]]
    set_tiles(first, overlap)
    c, seed = first.sampling, first.seed if seed is None else seed
    mixed = not all(map(networks.one_pass, configs.values()))
    if sampling["steps"] is not None and not mixed:
        where, steps = ",".join(map(str, workdirs)), sampling["steps"]
        raise UserError(f"steps={steps}: {where} holds a network that predicts in one pass")
    channels, of_images = networks.channels(first), networks.image_channels(first)
    for place, config in configs.items():
        if (own := networks.channels(config)) != channels:
            raise UserError(
                f"{place}: learnt {own}, and {workdirs[0]} {channels}; must be the same"
            )
        if (own := networks.image_channels(config)) != of_images:
            names = " and ".join(", ".join(one) or "RGB" for one in (own, of_images))
            raise UserError(
                f"{place}: images of the channels {names}; allowed are runs of the same"
            )
        if config.sampling.tile not in (0, c.tile):
            made = f"made for tiles of {config.sampling.tile} pixels"
            logging.warning("%s: %s, it gets the first run's, of %d", place, made, c.tile)
        left_out = OF_CHAINS if mixed and networks.one_pass(config) else ()
        chosen = {k: v for k, v in sampling.items() if v is not None and k not in left_out}
        config.sampling.update({**chosen, "tile": c.tile, "stride": c.stride})
        config.seed = seed
        try:
            validate.check(config)
        except UserError as error:
            raise UserError(f"{place}: {error}" if len(configs) > 1 else str(error)) from error
    return configs


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
