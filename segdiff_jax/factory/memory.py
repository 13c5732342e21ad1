"""Estimates the memory of a training step, and says which settings make it fit a device.

Counted are the state, the gradient, and what the backward pass reads of the forward pass, which is
traced and not compiled. What a compiler adds is a factor of programs compiled for TPUs.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from segdiff_jax.data.batch_layout import divide
from segdiff_jax.data.example import Batch
from segdiff_jax.errors import INTERNAL, UserError
from segdiff_jax.factory import networks, training
from segdiff_jax.models.segdiff import Params

COPIES = 5  # weights, their average, two moments of Adam, gradient; float32
# Compiled bytes of an image / those that are kept, for MoNuSeg in bfloat16: 3.55 / 2.06 GB, and
# 0.84 / 0.31 where most is recomputed (docs/performance.md)
COMPILED, COMPILED_REMAT = 1.75, 2.75
USABLE = 0.9  # of a device's memory; a tenth is left to the compiler
EXHAUSTED = "RESOURCE_EXHAUSTED"  # in JAX's message
Size = tuple[int, int]  # (H, W) of the network's input


class StepMemory(NamedTuple):
    """Holds the bytes of a training step on one device."""

    state: int  # and gradient
    row: int  # more for each row that is computed at once

    def total(self, rows: int, parts: int) -> int:
        """Returns the bytes of a step of so many rows a part; parts add a sum of gradients."""
        return self.state + rows * self.row + (parts > 1) * self.state // COPIES


class Choice(NamedTuple):
    """Holds values of config fields, and the bytes that a step then takes of a device."""

    settings: dict[str, int | str]
    bytes: int


def step_memory(config: ConfigDict, size: Size) -> StepMemory:
    """Estimates a training step for an input of this size."""
    config = config.copy_and_resolve_references()
    config.train.draws_at_once = config.train.noise_draws_per_image
    shapes = jax.eval_shape(training.init_fn(config, size)).params
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    one, two = (_kept(config, size, shapes, rows) for rows in (1, 2))
    factor = COMPILED if config.model.remat == "none" else COMPILED_REMAT
    return StepMemory(4 * COPIES * count, int(factor * (two - one)))


def _kept(config: ConfigDict, size: Size, params: Params, rows: int) -> int:
    """Returns the bytes that the backward pass of so many rows keeps, with the parameters."""
    objective = training.objective(config)
    shape: Any = partial(jax.ShapeDtypeStruct, dtype=np.uint8)
    batch = Batch(shape((rows, *size, networks.bands(config))), shape((rows, *size)))

    def backward(params: Params, batch: Batch) -> Any:
        keys = jax.random.split(jax.random.key(0), rows)
        return jax.vjp(lambda p: objective.loss(p, batch, keys)[0], params)[1]

    leaves = jax.tree.leaves(jax.eval_shape(backward, params, batch))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


@contextmanager
def explained(config: ConfigDict, size: Size, devices: int) -> Iterator[None]:
    """Turns JAX's error of too little memory into `advice`; arguments as its."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if EXHAUSTED not in str(error):
            raise
        logging.info("too little memory: estimating which settings would fit")
        stats = jax.local_devices()[0].memory_stats() or {}
        raise advice(config, size, devices, stats.get("bytes_limit"), str(error)) from error


def advice(
    config: ConfigDict, size: Size, devices: int, limit: int | None, reason: str = EXHAUSTED
) -> UserError:
    """Returns the error for a step that does not fit; its details are settings, cheapest first.

    Args:
      config: of the run.
      size: of the network's input.
      devices: of the run.
      limit: bytes of a device; None: not known.
      reason: the message of JAX, of which the first line is quoted.
    """
    rows = divide(config.train.batch_size, devices, config.train.accumulate)
    step = step_memory(config, size)
    first = next((line for line in reason.splitlines() if EXHAUSTED in line), EXHAUSTED)
    have = f"; one has {_gb(limit)}" if limit else ""
    lines = [_line(choice, limit) for choice in choices(config, step, size, devices, limit)]
    needs = step.total(rows.rows, rows.parts)
    return UserError(
        f"the devices have too little memory for a training step ({first.strip()}): "
        f"{rows.rows} images at once take about {_gb(needs)} a device{have}; settings that take "
        "less are above, the cheapest first, and may be combined with a smaller train.batch_size",
        INTERNAL,
        lines,
    )


def choices(
    config: ConfigDict, step: StepMemory, size: Size, devices: int, limit: int | None
) -> Iterator[Choice]:
    """Yields settings that take less memory, the cheapest first; each adds to those before it.

    Each has the smallest `train.accumulate` that fits, or the largest if none does. A smaller crop
    comes last, and only where nothing else fits: it changes what is learned.
    """
    config, settings = config.copy_and_resolve_references(), {}
    found = _in_parts(config, devices, limit, step, settings)
    yield found
    for name, value in (("remat", "all"), ("dtype", "bfloat16")):
        if config.model[name] != value:
            config.model[name] = settings[f"model.{name}"] = value
            step = step_memory(config, size)
            found = _in_parts(config, devices, limit, step, settings)
            yield found
    if not limit or not config.augment.crop or found.bytes <= USABLE * limit:
        return
    unit = networks.multiple(config)
    for crop in range(config.augment.crop - unit, 0, -unit):
        smaller = step._replace(row=step.row * crop**2 // math.prod(size))
        found = _in_parts(config, devices, limit, smaller, settings | {"augment.crop": crop})
        if found.bytes <= USABLE * limit:
            yield found
            return


def _in_parts(
    config: ConfigDict,
    devices: int,
    limit: int | None,
    step: StepMemory,
    settings: dict[str, int | str],
) -> Choice:
    """Returns these settings with the smallest number of parts that fits, or the largest."""
    most = -(-config.train.batch_size // devices)
    needs, parts = 0, most
    for parts in range(min(config.train.accumulate, most), most + 1):
        rows = divide(config.train.batch_size, devices, parts)
        needs = step.total(rows.rows, rows.parts)
        if limit and needs <= USABLE * limit:
            break
    return Choice({"train.accumulate": parts, **settings}, needs)


def _line(choice: Choice, limit: int | None) -> str:
    words = " ".join(f"--config.{key}={value}" for key, value in choice.settings.items())
    fits = choice.bytes <= USABLE * limit if limit else None
    verdict = {True: ", which fits", False: ", too much", None: ""}[fits]
    return f"{words}: about {_gb(choice.bytes)} a device{verdict}"


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
