"""The door: it and `networks` alone turn a config into objects. Inside are plain values."""

from collections.abc import Callable
from dataclasses import fields

from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax import diffusion
from segdiff_jax.errors import UserError
from segdiff_jax.factory.networks import check_size as check_size
from segdiff_jax.factory.networks import choose, model, multiple, one_pass
from segdiff_jax.inference.sampler import (
    DiffusionSampler,
    MaskSampler,
    OneShotSampler,
    TrajectorySampler,
)
from segdiff_jax.inference.segmentation import Segmenter
from segdiff_jax.models.segdiff import Params

SCHEDULES: dict[str, Callable[[int], diffusion.Schedule]] = {
    "linear": diffusion.linear_schedule,
    "linear_unscaled": lambda T: diffusion.linear_schedule(T, scaled=False),
    "cosine": diffusion.cosine_schedule,
}


# (tile, generation) pairs for a device in one call; an accelerator denoises them together
ROWS = 16


def schedule(config: ConfigDict) -> diffusion.Schedule:
    """Returns the forward process; warns when x_T is not nearly noise.

    Raises:
      UserError: the schedule cannot work.
    """
    c = config.diffusion
    try:
        made = choose(SCHEDULES, c.schedule, "diffusion.schedule")(c.T)
    except ValueError as error:
        raise UserError(f"diffusion.schedule is {c.schedule!r}: {error}") from error
    left = made.alpha_bar[-1]
    if left > 0.01:
        logging.warning(
            "diffusion.schedule %r with T = %d leaves %.0f %% of the signal at x_T: training never "
            "shows the pure noise that sampling starts from",
            c.schedule,
            c.T,
            100 * left,
        )
    return made


def prediction(config: ConfigDict) -> diffusion.Prediction:
    """Returns what the network's output means."""
    return diffusion.Prediction(config.diffusion.prediction, config.diffusion.clip_x0)


def reverse_steps(config: ConfigDict, forward: diffusion.Schedule) -> diffusion.Steps:
    """Returns the reverse process as a table."""
    c = config.sampling
    times = diffusion.respaced(forward.T, c.steps or forward.T)
    samplers = {
        "ddpm": lambda: diffusion.ddpm(forward, times, c.variance),
        "ddim": lambda: diffusion.ddim(forward, times, c.eta),
    }
    return choose(samplers, c.sampler, "sampling.sampler")()


def mask_sampler(config: ConfigDict) -> MaskSampler:
    """Returns what makes a mask of a tile."""
    common = {
        "model": model(config),
        "mean": tuple(config.data.mean),
        "std": tuple(config.data.std),
    }
    if one_pass(config):
        return OneShotSampler(**common)
    forward = schedule(config)
    steps = reverse_steps(config, forward)
    return DiffusionSampler(schedule=forward, prediction=prediction(config), steps=steps, **common)


def segmenter(config: ConfigDict, params: Params, mesh: Mesh) -> Segmenter:
    """Returns what turns images into masks; params are replicated over the mesh."""
    return _segmenter(config, mask_sampler(config), params, mesh)


def trajectory_segmenter(config: ConfigDict, params: Params, mesh: Mesh) -> Segmenter:
    """Returns what gives the estimates of x0 after each reverse step, [S, n, H, W] an image.

    Raises:
      UserError: the network finds the mask in one pass.
    """
    sampler = mask_sampler(config)
    if not isinstance(sampler, DiffusionSampler):
        raise UserError(f"config.model.kind={config.model.kind!r}: has no reverse steps")
    parts = {field.name: getattr(sampler, field.name) for field in fields(sampler)}
    return _segmenter(config, TrajectorySampler(**parts), params, mesh)


def _segmenter(config: ConfigDict, sampler: MaskSampler, params: Params, mesh: Mesh) -> Segmenter:
    c = config.sampling
    limit = c.rows_at_once or (1 if mesh.devices.flat[0].platform == "cpu" else ROWS)
    return Segmenter(
        sampler,
        params,
        mesh,
        generations=c.generations,
        tile=c.tile,
        stride=c.stride,
        most=max(1, mesh.size * max(limit, ROWS) // c.generations),
        limit=limit,
        multiple=multiple(config),
    )
