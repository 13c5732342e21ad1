"""The door: it and `networks` alone turn a config into objects. Inside are plain values."""

from collections.abc import Callable
from dataclasses import fields

import jax
import jax.numpy as jnp
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax import diffusion
from segdiff_jax.data import augment, objects, subset
from segdiff_jax.data.example import Example
from segdiff_jax.data.reading import Limits
from segdiff_jax.data.sources import Source, statistics
from segdiff_jax.data.views import View, crop
from segdiff_jax.direct import DirectObjective, DirectSampler
from segdiff_jax.errors import UserError
from segdiff_jax.loss import Loss, Objective, Params
from segdiff_jax.networks import check_size as check_size
from segdiff_jax.networks import choose, model, multiple
from segdiff_jax.networks import one_pass as one_pass
from segdiff_jax.sampler import Answerer, PathSampler, Sampler
from segdiff_jax.segment import Segmenter

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


def source(config: ConfigDict) -> Source:
    """Returns the data set."""
    name = config.data.name
    group = config.get(name)
    options = dict(group.items()) if group is not None else {}
    options["limits"] = limits(config)
    return Source(name, config.data.dir, config.data.prepared_dir, options)


def examples(config: ConfigDict, split: str) -> list[Example]:
    """Returns the examples of a split, as prepared; of train_split only those to train on."""
    loaded = source(config).load(split)
    if split != config.data.train_split:
        return loaded
    return subset.first(loaded, config.data.train_images, config.seed)


def limits(config: ConfigDict) -> Limits:
    """Returns what image files are held to."""
    return Limits(**config.reading)


def with_statistics(config: ConfigDict) -> ConfigDict:
    """Returns the config with data.mean and data.std, computed from train_split if they are ()."""
    if config.data.mean:
        return config
    mean, std = statistics(examples(config, config.data.train_split))
    logging.info("data.mean=%s, data.std=%s, computed from %r", mean, std, config.data.train_split)
    config = config.copy_and_resolve_references()
    config.data.mean, config.data.std = mean, std
    return config


def view(config: ConfigDict) -> View:
    """Returns what training sees of an example."""
    c = config.cityscapes
    if config.data.name == "cityscapes":
        low, high = c.train_expansion
        return objects.training_view(c.size, low, high, c.redraw, config.seed)
    return crop(config.augment.crop)


def scored(config: ConfigDict, split: str) -> list[Example]:
    """Returns the examples of a split as they are answered and scored."""
    found = examples(config, split)
    c = config.cityscapes
    if config.data.name == "cityscapes":
        return [objects.scored_example(example, c.test_expansion, c.size) for example in found]
    return found


def augmentation(config: ConfigDict) -> augment.Augment:
    """Returns what happens to a training example after its `view`, in the authors' order."""
    c = config.augment
    return augment.chain(
        augment.flip(c.horizontal_flip, c.vertical_flip),
        augment.affine(c.rotate, tuple(c.scale)),
        augment.color_jitter(*c.jitter),
    )


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """Returns updates made -> learning rate: a linear warm-up, then constant or a cosine to 0."""
    c = config.train
    constant = optax.constant_schedule(c.learning_rate)
    falling = optax.cosine_decay_schedule(c.learning_rate, max(c.steps - c.warmup_steps, 1))
    rate = choose({"constant": constant, "cosine": falling}, c.decay, "train.decay")
    if not c.warmup_steps:
        return rate
    rising = optax.linear_schedule(0.0, c.learning_rate, c.warmup_steps)
    return optax.join_schedules([rising, rate], [c.warmup_steps])


def optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Returns AdamW with PyTorch's defaults, after clipping if it is on.

    It is given all parameters as one vector (`flat`), so it must treat every array alike.
    """
    c = config.train
    clip = [optax.clip_by_global_norm(c.clip_norm)] if c.clip_norm else []
    return optax.chain(*clip, optax.adamw(learning_rate(config), weight_decay=c.weight_decay))


def ema_decay(config: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """Returns number of the update (from 1) -> decay of the moving average of the weights."""
    decay, warmup = config.train.ema_decay, config.train.ema_warmup

    def at(step: jax.Array) -> jax.Array:
        n = step.astype(jnp.float32)
        return jnp.minimum(decay, (1 + n) / (10 + n)) if warmup else jnp.float32(decay)

    return at


def objective(config: ConfigDict) -> Loss:
    """Returns what training minimises."""
    common = {
        "model": model(config),
        "augment": augmentation(config),
        "mean": tuple(config.data.mean),
        "std": tuple(config.data.std),
        "reduction": config.train.loss,
    }
    if one_pass(config):
        return DirectObjective(**common)
    return Objective(
        schedule=schedule(config),
        prediction=prediction(config),
        draws=config.train.noise_draws_per_image,
        at_once=draws_at_once(config),
        **common,
    )


def draws_at_once(config: ConfigDict) -> int:
    """Returns how many draws of an image are denoised together; on a CPU one is fastest."""
    automatic = 1 if jax.default_backend() == "cpu" else config.train.noise_draws_per_image
    return config.train.draws_at_once or automatic


def answerer(config: ConfigDict) -> Answerer:
    """Returns what makes a mask of a tile."""
    common = {
        "model": model(config),
        "mean": tuple(config.data.mean),
        "std": tuple(config.data.std),
    }
    if one_pass(config):
        return DirectSampler(**common)
    forward = schedule(config)
    steps = reverse_steps(config, forward)
    return Sampler(schedule=forward, prediction=prediction(config), steps=steps, **common)


def segmenter(config: ConfigDict, params: Params, mesh: Mesh) -> Segmenter:
    """Returns what turns images into masks; params are replicated over the mesh."""
    return _segmenter(config, answerer(config), params, mesh)


def path_segmenter(config: ConfigDict, params: Params, mesh: Mesh) -> Segmenter:
    """Returns what gives the estimates of x0 after each reverse step, [S, n, H, W] an image.

    Raises:
      UserError: the network finds the mask in one pass.
    """
    sampler = answerer(config)
    if not isinstance(sampler, Sampler):
        raise UserError(f"config.model.kind={config.model.kind!r}: has no reverse steps")
    parts = {field.name: getattr(sampler, field.name) for field in fields(sampler)}
    return _segmenter(config, PathSampler(**parts), params, mesh)


def _segmenter(config: ConfigDict, sampler: Answerer, params: Params, mesh: Mesh) -> Segmenter:
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
