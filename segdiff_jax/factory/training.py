"""Builds everything a training run needs from a config: objective, optimizer, compiled step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax.data.batch_layout import BatchLayout, divide
from segdiff_jax.data.batches import batches
from segdiff_jax.data.example import Batch, Example
from segdiff_jax.factory import datasets, networks
from segdiff_jax.factory.samplers import prediction, schedule, segmenter
from segdiff_jax.inference.segmentation import Segmenter
from segdiff_jax.models.segdiff import at_precision
from segdiff_jax.runtime import distributed
from segdiff_jax.training.flat_state import FlatLayout
from segdiff_jax.training.loss import CrossEntropyObjective, DenoisingObjective, Objective
from segdiff_jax.training.step import Learner, Metrics, TrainState, init_state

Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


@dataclass(frozen=True)
class TrainOptions:
    """Holds config.seed, and the settings of the training loop of these names in config.train."""

    steps: int
    batch_size: int
    seed: int
    log_every: int
    checkpoint_every: int
    evaluate_every: int
    skip_nonfinite: int


@dataclass(frozen=True, eq=False)
class TrainSetup:
    """Holds everything a training run needs; no config is read after it is built."""

    options: TrainOptions
    mesh: Mesh  # of all devices
    rows: BatchLayout  # of a batch on them
    examples: list[Example]  # to train on
    size: tuple[int, int]  # (H, W) of the network's input
    shapes: TrainState  # of a state as trees
    layout: FlatLayout  # of the vectors that states have below in place of those trees
    initial_state: Callable[[], TrainState]  # a function of the seed, on every device
    step: Step  # mapped over the mesh
    key: jax.Array  # all randomness of training follows from it; on every device
    batches: Callable[[int], Iterator[Batch]]  # n -> rows of steps n + 1, ... on the devices
    validation: Callable[[], tuple[Segmenter, list[Example]]]  # its segmenter has no params


def setup(config: ConfigDict, examples: list[Example], mesh: Mesh) -> TrainSetup:
    """Builds what a training run on these examples needs; compiles nothing large.

    Raises:
      UserError: the network cannot halve an example's sides as often as it has levels.
    """
    size = input_size(config, examples)
    fresh = init_fn(config, size)
    shapes = jax.eval_shape(fresh)
    layout = FlatLayout(shapes.params)

    def initial_state() -> TrainState:  # the name of the program in JAX's log
        return layout.flatten_state(fresh())

    return TrainSetup(
        options=options(config),
        mesh=mesh,
        rows=batch_layout(config, mesh.size),
        examples=examples,
        size=size,
        shapes=shapes,
        layout=layout,
        # flat at once: a program with 574 results, and one that joins them, are slow to load
        initial_state=jit_replicated(initial_state, mesh),
        step=build_step(config, mesh, layout),
        key=run_key(config.seed, mesh),
        batches=partial(device_batches, config, examples, mesh=mesh),
        validation=partial(validation, config, mesh),
    )


def options(config: ConfigDict) -> TrainOptions:
    """Returns the settings of the training loop."""
    names = {field.name for field in fields(TrainOptions)} - {"seed"}
    return TrainOptions(seed=config.seed, **{name: config.train[name] for name in names})


def input_size(config: ConfigDict, examples: list[Example]) -> tuple[int, int]:
    """Returns (H, W) of the network's input; warns of images smaller than the crop.

    Raises:
      UserError: the network cannot halve the sides as often as it has levels.
    """
    crop = config.augment.crop
    height, width = datasets.crop_fn(config)(np.random.default_rng(0), examples[0])[1].shape
    networks.check_size(config, (height, width), examples[0].name)
    # an example with a box is cropped by the box, whatever augment.crop is
    if small := sum(e.box is None and min(e.image.shape[:2]) < crop for e in examples):
        logging.warning(
            "%d of %d training images are smaller than augment.crop=%d: reflected at the border",
            *(small, len(examples), crop),
        )
    return height, width


def objective(config: ConfigDict, at_T: bool = False) -> Objective:
    """Returns the objective that training minimises; with the draw at T alone, if `at_T`."""
    common = {
        "model": networks.model(config),
        "augment": datasets.augmentation(config),
        "mean": tuple(config.data.mean),
        "std": tuple(config.data.std),
        "reduction": config.train.loss,
        "channels": networks.channels(config).count,
    }
    if networks.one_pass(config):
        return CrossEntropyObjective(**common)
    draws = 1 if at_T else config.train.noise_draws_per_image
    fastest = 1 if jax.default_backend() == "cpu" else draws
    return DenoisingObjective(
        schedule=schedule(config),
        prediction=prediction(config),
        draws=draws,
        draws_at_once=1 if at_T else config.train.draws_at_once or fastest,
        kind=config.train.draws,
        recycled=config.train.recycled,
        recycled_until=config.train.recycled_until or config.diffusion.T,
        **common,
    )


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """Returns steps taken -> learning rate: a linear warm-up, then constant or a cosine to 0."""
    c = config.train
    constant = optax.constant_schedule(c.learning_rate)
    falling = optax.cosine_decay_schedule(c.learning_rate, max(c.steps - c.warmup_steps, 1))
    rate = networks.choose({"constant": constant, "cosine": falling}, c.decay, "train.decay")
    if not c.warmup_steps:
        return rate
    rising = optax.linear_schedule(0.0, c.learning_rate, c.warmup_steps)
    return optax.join_schedules([rising, rate], [c.warmup_steps])


def optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Returns AdamW with PyTorch's defaults, after clipping if it is on.

    It takes all parameters as one vector (`flat_state`), so it must treat every array alike.
    """
    c = config.train
    clip = [optax.clip_by_global_norm(c.clip_norm)] if c.clip_norm else []
    return optax.chain(*clip, optax.adamw(learning_rate(config), weight_decay=c.weight_decay))


def ema_decay(config: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """Returns number of the step (from 1) -> decay of the moving average of the weights."""
    decay, warmup = config.train.ema_decay, config.train.ema_warmup

    def at(step: jax.Array) -> jax.Array:
        n = step.astype(jnp.float32)
        return jnp.minimum(decay, (1 + n) / (10 + n)) if warmup else jnp.float32(decay)

    return at


def learner(config: ConfigDict) -> Learner:
    """Returns what takes training steps, of states that hold trees."""
    c, first = config.train, None
    if (steps := round(c.share_at_T * c.steps)) and not networks.one_pass(config):
        first = objective(config, at_T=True)
    return Learner(
        objective(config),
        optimizer(config),
        ema_decay(config),
        distributed.AXIS,
        first=first,
        first_steps=steps,
    )


def batch_layout(config: ConfigDict, devices: int) -> BatchLayout:
    """Returns how the rows of a batch are divided over so many devices."""
    return divide(config.train.batch_size, devices, config.train.accumulate)


def build_step(config: ConfigDict, mesh: Mesh, layout: FlatLayout) -> Step:
    """Returns (state, rows, key) -> (state, metrics), mapped over the mesh, of flat states."""
    rows = batch_layout(config, mesh.size)
    shared = {"batch_size": rows.batch_size, "parts": rows.parts}
    flat = replace(learner(config), unflatten=layout.unflatten, **shared)
    step = at_precision(flat.objective.model.precision, flat.train_step)
    return distributed.map_step(step, mesh, config.train.map)


def init_fn(config: ConfigDict, size: tuple[int, int]) -> Callable[[], TrainState]:
    """Returns the initialisation for an input of (H, W), a function of the seed; traced once."""
    fresh = partial(init_state, objective(config), optimizer(config), size)
    return jax.jit(lambda: fresh(jax.random.key(config.seed)))


def jit_replicated(init: Callable[[], TrainState], mesh: Mesh) -> Callable[[], TrainState]:
    """Compiles a function without arguments whose result is replicated over the mesh."""
    # one draw and thousands of small slices: optimizing them takes a CPU seconds and saves nothing
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(init, out_shardings=distributed.everywhere(mesh), compiler_options=options)


def run_key(seed: int, mesh: Mesh) -> jax.Array:
    """Returns the key that all randomness of training follows from, on every device."""
    make = partial(jax.random.fold_in, jax.random.key(seed), 1)
    return jax.jit(make, out_shardings=distributed.everywhere(mesh))()


def device_batches(
    config: ConfigDict, examples: list[Example], first: int, mesh: Mesh
) -> Iterator[Batch]:
    """Yields the rows of training steps first + 1, first + 2, ... as uint8 on the devices."""
    process = jax.process_index(), jax.process_count()
    rows, crop = batch_layout(config, mesh.size), datasets.crop_fn(config)
    of_process = process, crop, rows.slots
    count = networks.channels(config).count
    order = examples, rows.batch_size, config.seed, first
    bands = networks.bands(config)
    for batch in batches(*order, *of_process, channels=count, bands=bands):
        yield distributed.split_rows(batch, mesh)


def validation(config: ConfigDict, mesh: Mesh) -> tuple[Segmenter, list[Example]]:
    """Returns a segmenter without parameters, and the examples of the validation split."""
    examples = datasets.scored_examples(config, config.data.validation_split)
    return segmenter(config, None, mesh), examples
