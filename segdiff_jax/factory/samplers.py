"""Builds the noise schedule, the reverse process, the sampler and the segmenter of a config."""

from collections.abc import Callable
from dataclasses import replace

from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax import diffusion
from segdiff_jax.errors import UserError
from segdiff_jax.factory.networks import choose, model, multiple, one_pass
from segdiff_jax.inference.sampler import DiffusionSampler, MaskSampler, OneShotSampler
from segdiff_jax.inference.segmentation import Segmenter
from segdiff_jax.models.segdiff import Params

SCHEDULES: dict[str, Callable[[int], diffusion.Schedule]] = {
    "linear": diffusion.linear_schedule,
    "linear_unscaled": lambda T: diffusion.linear_schedule(T, scaled=False),
    "cosine": diffusion.cosine_schedule,
}
ROWS = 16  # (tile, generation) rows of a device in one call; an accelerator denoises them together


def schedule(config: ConfigDict) -> diffusion.Schedule:
    """Returns the forward process; warns when x_T is not nearly pure noise.

    Raises:
      UserError: a beta of the schedule is outside (0, 1).
    """
    c = config.diffusion
    try:
        forward = choose(SCHEDULES, c.schedule, "diffusion.schedule")(c.T)
    except ValueError as error:
        raise UserError(f"diffusion.schedule is {c.schedule!r}: {error}") from error
    if (signal := forward.alpha_bar[-1]) > 0.01:
        logging.warning(
            "diffusion.schedule %r with T = %d leaves %.0f %% of the signal at x_T: training never "
            "shows the pure noise that sampling starts from",
            *(c.schedule, c.T, 100 * signal),
        )
    return forward


def prediction(config: ConfigDict) -> diffusion.Prediction:
    """Returns what the network's output parameterises."""
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
    """Returns the sampler of one mask of one tile."""
    mean, std = tuple(config.data.mean), tuple(config.data.std)
    common = {"model": model(config), "mean": mean, "std": std}
    if one_pass(config):
        return OneShotSampler(**common)
    forward = schedule(config)
    steps = reverse_steps(config, forward)
    return DiffusionSampler(schedule=forward, prediction=prediction(config), steps=steps, **common)


def segmenter(config: ConfigDict, params: Params, mesh: Mesh) -> Segmenter:
    """Returns the segmenter of images; params are replicated over the mesh."""
    c = config.sampling
    rows = c.rows_at_once or (1 if mesh.devices.flat[0].platform == "cpu" else ROWS)
    return Segmenter(
        mask_sampler(config),
        params,
        mesh,
        generations=c.generations,
        tile=c.tile,
        stride=c.stride,
        max_tiles_per_call=max(1, mesh.size * max(rows, ROWS) // c.generations),
        rows_per_device=rows,
        multiple=multiple(config),
    )


def trajectory_segmenter(config: ConfigDict, params: Params, mesh: Mesh) -> Segmenter:
    """Returns a segmenter that yields the estimates of x0 after each reverse step, [S, n, H, W].

    Raises:
      UserError: the network predicts the mask in one pass.
    """
    of_masks = segmenter(config, params, mesh)
    if not isinstance(of_masks.sampler, DiffusionSampler):
        raise UserError(f"config.model.kind={config.model.kind!r}: has no reverse steps")
    return replace(of_masks, sampler=replace(of_masks.sampler, trajectory=True))
