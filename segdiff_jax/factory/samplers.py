"""Builds the noise schedule, the reverse process, the samplers and the predictor of a config."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax import diffusion
from segdiff_jax.errors import UserError
from segdiff_jax.factory.networks import channels, choose, model, multiple, one_pass
from segdiff_jax.inference.predictor import Predictor, Run
from segdiff_jax.inference.sampler import (
    DiffusionSampler,
    MarginalSampler,
    MaskSampler,
    OneShotSampler,
)
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
    return diffusion.with_signal_scale(forward, c.signal_scale)


def prediction(config: ConfigDict) -> diffusion.Prediction:
    """Returns what the network's output parameterises."""
    c = config.diffusion
    return diffusion.Prediction(c.prediction, c.clip_x0, c.bayes_skip, c.zero_x_T)


def reverse_steps(config: ConfigDict, forward: diffusion.Schedule) -> diffusion.Steps:
    """Returns the reverse process as a table."""
    c = config.sampling
    steps = c.steps or forward.T
    spacings = {
        "even": lambda: diffusion.respaced(forward.T, steps),
        "snr": lambda: diffusion.respaced_by_snr(forward, steps),
    }
    times = choose(spacings, c.spacing, "sampling.spacing")()
    samplers = {
        "ddpm": lambda: diffusion.ddpm(forward, times, c.variance),
        "ddim": lambda: diffusion.ddim(forward, times, c.eta),
    }
    return choose(samplers, c.sampler, "sampling.sampler")()


def probability_sampler(config: ConfigDict) -> MaskSampler:
    """Returns the sampler of what is averaged to the probability of one tile."""
    if one_pass(config):
        return OneShotSampler(**_network(config))
    if config.sampling.budget == "paper":
        return chain_sampler(config)
    forward = schedule(config)
    return MarginalSampler(schedule=forward, prediction=prediction(config), **_network(config))


def chain_sampler(config: ConfigDict) -> DiffusionSampler:
    """Returns the sampler of one mask of one tile by the reverse process."""
    forward = schedule(config)
    return DiffusionSampler(
        schedule=forward,
        prediction=prediction(config),
        steps=reverse_steps(config, forward),
        drawn=config.sampling.x0 == "drawn",
        **_network(config),
    )


def _network(config: ConfigDict) -> dict[str, Any]:
    mean, std = tuple(config.data.mean), tuple(config.data.std)
    return {"model": model(config), "mean": mean, "std": std, "channels": channels(config)}


def predictor(runs: Sequence[tuple[ConfigDict, Params]], mesh: Mesh) -> Predictor:
    """Returns the predictor of one run or several; params are replicated over the mesh.

    Each run has the budget and the steps of its own config. The most samples that a config asks for
    are drawn, as the first such config says, by all runs whose network is one of diffusion.
    """
    first = max((config.sampling for config, _ in runs), key=lambda c: c.samples)
    count = sum(not one_pass(config) for config, _ in runs)
    share = -(-first.samples // count) if first.samples else 0  # rounded up

    def run(config: ConfigDict, params: Params) -> Run:
        chain = None
        if share and not one_pass(config):
            chain = chain_segmenter(config, params, mesh, share)
        return Run(segmenter(config, params, mesh), chain, config.sampling.fusion)

    return Predictor(
        tuple(run(config, params) for config, params in runs),
        samples=first.samples,
        coupled=choose({"coupled": True, "soft": False}, first.masks, "sampling.masks"),
        tolerance=first.tolerance,
        by_distance=runs[0][0].sampling.separate == "distance",
    )


def segmenter(config: ConfigDict, params: Params, mesh: Mesh) -> Segmenter:
    """Returns the segmenter of probabilities; params are replicated over the mesh."""
    c = config.sampling
    passes = {"paper": (c.generations, 1), "fast": (1, 1), "balanced": (c.orientations,) * 2}
    generations, orientations = choose(passes, c.budget, "sampling.budget")
    return _segmenter(config, probability_sampler(config), params, mesh, generations, orientations)


def chain_segmenter(
    config: ConfigDict, params: Params, mesh: Mesh, generations: int, trajectory: bool = False
) -> Segmenter:
    """Returns the segmenter of masks by the reverse process; the steps of each, if `trajectory`.

    Raises:
      UserError: the network predicts the mask in one pass.
    """
    if one_pass(config):
        raise UserError(f"config.model.kind={config.model.kind!r}: has no reverse steps")
    sampler = replace(chain_sampler(config), trajectory=trajectory)
    return _segmenter(config, sampler, params, mesh, generations)


def _segmenter(
    config: ConfigDict,
    sampler: MaskSampler,
    params: Params,
    mesh: Mesh,
    generations: int,
    orientations: int = 1,
) -> Segmenter:
    c = config.sampling
    rows = c.rows_at_once or (1 if mesh.devices.flat[0].platform == "cpu" else ROWS)
    return Segmenter(
        sampler,
        params,
        mesh,
        generations=generations,
        tile=c.tile,
        stride=c.stride,
        max_tiles_per_call=max(1, mesh.size * max(rows, ROWS) // generations),
        rows_per_device=rows,
        multiple=multiple(config),
        orientations=orientations,
    )


def prediction_key(config: ConfigDict) -> jax.Array:
    """Returns the key of all noise of predictions; evaluation uses another."""
    return jax.random.fold_in(jax.random.key(config.seed), 3)


def of_predictions(
    steps: Sequence[int], configs: Sequence[ConfigDict], predictor: Predictor
) -> dict[str, Any]:
    """Returns what predictions of runs depend on besides the image, the tiles and the seed."""
    runs = [of_sampling(config, predictor) for config in configs]
    return {"updates": [int(step) for step in steps], "runs": runs}


def of_sampling(config: ConfigDict, predictor: Predictor) -> dict[str, Any]:
    """Returns what the predictions of a run depend on, besides its weights and its tiles.

    What is as it was before it became a choice is left out, so that an output that an earlier
    version began can be continued.
    """
    c, T, diffuses = config.sampling, config.diffusion.T, config.model.kind == "diffusion"
    passes = {"fast": {}, "balanced": {"orientations": c.orientations}, "paper": {}}
    found: dict[str, Any] = {} if diffuses else {"kind": config.model.kind}
    if c.budget != "paper":
        found |= {"budget": c.budget, **passes[c.budget]}
    elif diffuses:
        found |= {"generations": c.generations}
        found |= {"fusion": c.fusion} if c.fusion != "mean" else {}
    if diffuses and (c.budget == "paper" or predictor.samples):
        found |= {"steps": c.steps or T, "sampler": c.sampler, "variance": c.variance, "eta": c.eta}
        found |= {"spacing": c.spacing} if c.spacing != "even" else {}
        found |= {"x0": c.x0} if c.x0 != "soft" else {}
    if diffuses and predictor.samples:
        found |= {"samples": predictor.samples, "masks": c.masks, "tolerance": predictor.tolerance}
    found |= {"separate": c.separate} if c.separate != "auto" else {}
    return found
