"""Times a whole configuration on an accelerator: a training step, an image, the matrix peak.

The matrix peak is the rate of large products on the device, in the precision of the activations.
The rate of a training step is relative to it; its arithmetic is counted as three forward passes, as
is usual. A device cannot hold our training and theirs at once; theirs is timed first, in processes
that end before ours begins.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks import elsewhere, ours, peak
from benchmarks.measured import Plan
from benchmarks.network_input import side_of
from benchmarks.shapes import forward
from benchmarks.timing import Row, Sample, alternate, figure, ratio, rows_of
from segdiff_jax.runtime import distributed
from segdiff_jax.training import nonfinite

STEPS = nonfinite.MAX_STEPS_IN_FLIGHT  # training steps of one time measurement
PRECISIONS = {"float32": "float32", "bfloat16": "float16 autocast"}  # ours: theirs
SIDE = 8192  # of the matrices
PRODUCTS = 16


def matrix_products(dtype: str, side: int) -> Callable[[], jax.Array]:
    """Returns a workload that multiplies square matrices, each product by the next factor."""
    keys = jax.random.split(jax.random.key(0))
    factors = [jax.random.normal(key, (side, side), dtype) / side**0.5 for key in keys]

    @jax.jit
    def chain(a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, PRODUCTS, lambda _, x: jnp.dot(x, b), a)

    return lambda: jax.block_until_ready(chain(*factors))


def tiles_of(config: ConfigDict, size: int) -> int:
    """Returns the number of tiles, without overlap, of a square image with a side in pixels."""
    return (size // side_of(config)) ** 2


def steps(config: ConfigDict) -> int:
    """Returns the number of reverse steps of a generation."""
    return config.sampling.steps or config.diffusion.T


def theirs(plan: Plan, config: ConfigDict, size: int) -> dict[str, Sample]:
    """Returns the seconds of a training step, and of all generations of an image, in their code.

    They sample one generation after the other, with all tiles of an image as one batch: one
    generation is timed and multiplied by their number.
    """
    if not plan.authors:
        return {}
    command, S = elsewhere.command(plan.authors), config.sampling.generations
    with elsewhere.started(command, config, side_of(config)) as network:
        update = network.training_step(config.train.batch_size)
        work = {"update": lambda: [update() for _ in range(STEPS)]}
        samples = alternate(work, plan.repeats)
        tiles = tiles_of(config, size)
        work = {"image": network.sampling(tiles, steps(config))}
        samples |= alternate(work, plan.repeats)
    return {"update": samples["update"].times(1 / STEPS), "image": samples["image"].times(S)}


def rows(plan: Plan, config: ConfigDict, size: int, side: int = SIDE) -> list[Row]:
    """Returns the rows of this section.

    Args:
      plan: of the benchmark; its dtype is that of our activations.
      config: one that the authors' code can express.
      size: side of the sampled image, pixels.
      side: of the matrices.
    """
    config = ours.changed(config, model__dtype=plan.dtype)
    batch, S, T = config.train.batch_size, config.sampling.generations, steps(config)
    update, image = f"an update of {batch}", f"{S} generations of {T} steps, {size} pixels"
    authors = {
        precision: theirs(plan, ours.changed(config, model__dtype=dtype), size)
        for dtype, precision in PRECISIONS.items()
    }
    mesh = distributed.all_devices()
    examples = ours.made_up(2 * batch, side_of(config))
    products = alternate({"peak": matrix_products(plan.dtype, side)}, plan.repeats)
    training = ours.training_step(config, mesh, ours.constant_rows(config, examples, mesh), STEPS)
    samples = alternate({update: training}, plan.repeats)
    del training
    memory = peak.device_peak()  # of training: before sampling
    samples[update] = samples[update].times(1 / STEPS)
    params = ours.fresh_state(config, mesh).params
    samples |= alternate({image: ours.sampling(config, params, mesh, size)}, plan.repeats)

    one = forward(config)
    work = 3 * batch * (one.encode + one.denoise)
    limit = Sample(tuple(2 * PRODUCTS * side**3 / s for s in products["peak"].values))
    reached = Sample(tuple(work / s for s in samples[update].values))
    rows = [
        Row(f"matrix products of {side}, {plan.dtype}", "TFLOP/s", limit.times(1e-12)),
        *rows_of(samples, [update, image]),
        Row(f"{update}: of the matrix peak", "%", ratio(reached, limit).times(100), 40),
    ]
    if memory:
        rows.append(figure("memory at most, training", "GB", memory / 1e9))
    for precision, times in authors.items():
        for name, key, bar in ((update, "update", None), (image, "image", 5.0)):
            if key in times:
                rows.append(Row(f"{name}, authors, {precision}", "ms", times[key].times(1e3)))
                speed = ratio(times[key], samples[name])
                rows.append(Row(f"{name}: authors, {precision} / ours", "x", speed, bar))
    return rows
