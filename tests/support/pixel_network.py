"""A network without any neighbourhood, which compiles at once, and predictors made of it."""

from functools import cache

import flax.linen as nn
from tiny_config import mesh_of

from segdiff_jax import diffusion
from segdiff_jax.inference.predictor import Predictor, Run
from segdiff_jax.inference.sampler import DiffusionSampler, MarginalSampler
from segdiff_jax.inference.segmentation import Segmenter

SCHEDULE, LOGIT = diffusion.linear_schedule(100), diffusion.Prediction("logit", False)


class PixelByPixel(nn.Module):
    """A network without any neighbourhood: log odds of the pixel's colour and its x_t."""

    shift: float = 0.0
    factor: int = 1
    precision: str = "default"

    def encode(self, image):
        return image

    def denoise(self, x_t, t, features):
        late = (t / 100)[:, None, None, None]
        return features[..., :1] + self.shift + 2 * (1 - 0.5 * late) * x_t


@cache  # programs are compiled once for a sampler
def samplers_of(shift):
    """Returns those of the map, of one pass at t=T, and of the samples, of three steps."""
    shared = {"model": PixelByPixel(shift), "mean": (128.0,) * 3, "std": (80.0,) * 3}
    shared |= {"schedule": SCHEDULE, "prediction": LOGIT}
    steps = diffusion.ddim(SCHEDULE, diffusion.respaced(100, 3), 1.0)
    return MarginalSampler(**shared), DiffusionSampler(**shared, steps=steps)


def segmenters(shift=0.0, generations=1, samples=4, tile=0, stride=0, devices=1):
    """Returns those of the map and of the samples, which cut the same tiles."""
    cut = {"tile": tile, "stride": stride, "max_tiles_per_call": 2, "rows_per_device": 1}
    return tuple(
        Segmenter(sampler, {}, mesh_of(devices), generations=count, multiple=4, **cut)
        for sampler, count in zip(samplers_of(shift), (generations, samples), strict=True)
    )


def predictor_of(samples=4, coupled=True, tolerance=0.0, **options):
    """Returns the predictor of one such network."""
    one, chain = segmenters(samples=samples, **options)
    return Predictor((Run(one, chain),), samples, coupled, tolerance)
