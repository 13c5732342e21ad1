"""The door: the only module that turns a config into objects. Everything inside is plain values."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax import diffusion
from segdiff_jax.data import augment, objects
from segdiff_jax.data.example import Example
from segdiff_jax.data.reading import Limits
from segdiff_jax.data.sources import Source, statistics
from segdiff_jax.data.views import View, crop
from segdiff_jax.errors import UserError
from segdiff_jax.models.conditioning import Sum
from segdiff_jax.models.rrdb import RRDBNet
from segdiff_jax.models.segdiff import SegDiff
from segdiff_jax.models.unet import UNet
from segdiff_jax.sampler import Sampler
from segdiff_jax.segment import Segmenter
from segdiff_jax.step import Objective, Params

CONDITIONINGS = {"sum": Sum}
SCHEDULES: dict[str, Callable[[int], diffusion.Schedule]] = {
    "linear": diffusion.linear_schedule,
    "linear_unscaled": lambda T: diffusion.linear_schedule(T, scaled=False),
    "cosine": diffusion.cosine_schedule,
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def choose(table: dict[str, Any], name: str, key: str) -> Any:
    """Returns table[name], or says what is allowed."""
    if name not in table:
        raise UserError(f"{key} is {name!r}; allowed: {', '.join(map(repr, table))}")
    return table[name]


def model(config: ConfigDict) -> SegDiff:
    """Returns the network; parameters are made by `step.init_state`."""
    c = config.model
    dtype = choose(DTYPES, c.dtype, "model.dtype")
    return SegDiff(
        encoder=RRDBNet(c.channels, c.rrdb_blocks, c.rrdb_features, c.rrdb_growth, dtype),
        conditioning=choose(CONDITIONINGS, c.conditioning, "model.conditioning")(c.channels, dtype),
        unet=UNet(
            channels=c.channels,
            multipliers=tuple(c.multipliers),
            blocks=c.blocks_per_level,
            attention_factors=tuple(c.attention_factors),
            heads=c.heads,
            groups=c.norm_groups,
            dropout=c.dropout,
            time_embedding=c.time_embedding,
            T=config.diffusion.T,
            dtype=dtype,
        ),
    )


def multiple(config: ConfigDict) -> int:
    """Returns what a side of the network's input must be a multiple of: it is halved so often."""
    return 2 ** (len(config.model.multipliers) - 1)


def check_size(config: ConfigDict, size: tuple[int, ...], name: str) -> None:
    """Holds an input to sides that the network can halve at every level.

    Raises:
      UserError: a side is no multiple of 2^(levels - 1).
    """
    if any(side % multiple(config) for side in size):
        raise UserError(
            f"{name} is {size[0]}x{size[1]}; allowed: multiples of {multiple(config)}, for "
            f"{len(config.model.multipliers)} levels: set augment.crop"
        )


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


def limits(config: ConfigDict) -> Limits:
    """Returns what image files are held to."""
    return Limits(**config.reading)


def with_statistics(config: ConfigDict) -> ConfigDict:
    """Returns the config with data.mean and data.std, computed from train_split if they are ()."""
    if config.data.mean:
        return config
    mean, std = statistics(source(config).load(config.data.train_split))
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
    examples = source(config).load(split)
    c = config.cityscapes
    if config.data.name == "cityscapes":
        return [objects.scored_example(example, c.test_expansion, c.size) for example in examples]
    return examples


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
    """Returns AdamW with PyTorch's defaults, after clipping if it is on."""
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


def objective(config: ConfigDict) -> Objective:
    """Returns what training minimises."""
    return Objective(
        model=model(config),
        schedule=schedule(config),
        prediction=prediction(config),
        augment=augmentation(config),
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        draws=config.train.noise_draws_per_image,
        reduction=config.train.loss,
    )


def segmenter(config: ConfigDict, params: Params, mesh: Mesh) -> Segmenter:
    """Returns what turns images into masks; params are replicated over the mesh."""
    forward = schedule(config)
    sampler = Sampler(
        model=model(config),
        schedule=forward,
        prediction=prediction(config),
        steps=reverse_steps(config, forward),
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
    )
    c = config.sampling
    return Segmenter(
        sampler,
        params,
        mesh,
        generations=c.generations,
        tile=c.tile,
        stride=c.stride,
        limit=c.rows_at_once,
        multiple=multiple(config),
    )
