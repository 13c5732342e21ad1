"""A whole configuration on an accelerator: an update, a sampled image, and what the chip could do.

The matrix peak is what large products reach on the device, in the precision of the activations. An
update is held against it by counting its arithmetic as three forward passes, as is usual. One
device holds either our training or theirs, so theirs is timed first, in processes that have ended
before ours begins.
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

STEPS = nonfinite.MAX_STEPS_IN_FLIGHT  # updates between two looks at the clock
PRECISIONS = {"float32": "float32", "bfloat16": "float16 autocast"}  # ours, and theirs then
SIDE = 8192  # of the matrices
PRODUCTS = 16


def matrix_products(dtype: str, side: int) -> Callable[[], jax.Array]:
    """Returns what multiplies random square matrices, each product by the next factor."""
    keys = jax.random.split(jax.random.key(0))
    factors = [jax.random.normal(key, (side, side), dtype) / side**0.5 for key in keys]

    @jax.jit
    def chain(a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, PRODUCTS, lambda _, x: jnp.dot(x, b), a)

    return lambda: jax.block_until_ready(chain(*factors))


def tiles_of(config: ConfigDict, size: int) -> int:
    """Returns how many tiles an image of a size, pixels a side, has, if they do not overlap."""
    return (size // side_of(config)) ** 2


def steps(config: ConfigDict) -> int:
    """Returns how many reverse steps a generation takes."""
    return config.sampling.steps or config.diffusion.T


def theirs(plan: Plan, config: ConfigDict, size: int) -> dict[str, Sample]:
    """Returns the seconds of an update, and of all generations of an image, in their code.

    They draw one generation after the other, all tiles of an image together, so an image takes as
    many times as long as one of them.
    """
    if not plan.authors:
        return {}
    words, S = elsewhere.command(plan.authors), config.sampling.generations
    with elsewhere.started(words, config, side_of(config)) as there:
        update = there.training_step(config.train.batch_size)
        work = {"update": lambda: [update() for _ in range(STEPS)]}
        works = alternate(work, plan.repeats)
        tiles = tiles_of(config, size)
        work = {"image": there.sampling(tiles, steps(config))}
        works |= alternate(work, plan.repeats)
    return {"update": works["update"].times(1 / STEPS), "image": works["image"].times(S)}


def rows(plan: Plan, config: ConfigDict, size: int, side: int = SIDE) -> list[Row]:
    """Returns the rows of this section.

    Args:
      plan: of the benchmark; its dtype is that of our activations.
      config: that the authors' code can express.
      size: of the image that is sampled, pixels a side.
      side: of the matrices.
    """
    config = ours.changed(config, model__dtype=plan.dtype)
    batch, S, T = config.train.batch_size, config.sampling.generations, steps(config)
    update, image = f"an update of {batch}", f"{S} generations of {T} steps, {size} pixels"
    beside = {
        said: theirs(plan, ours.changed(config, model__dtype=dtype), size)
        for dtype, said in PRECISIONS.items()
    }
    mesh = distributed.all_devices()
    examples = ours.made_up(2 * batch, side_of(config))
    products = alternate({"peak": matrix_products(plan.dtype, side)}, plan.repeats)
    training = ours.training_step(config, mesh, ours.constant_rows(config, examples, mesh), STEPS)
    samples = alternate({update: training}, plan.repeats)
    del training
    most = peak.device_peak()  # of training: sampling comes later
    samples[update] = samples[update].times(1 / STEPS)
    params = ours.fresh_state(config, mesh).params
    samples |= alternate({image: ours.sampling(config, params, mesh, size)}, plan.repeats)

    one = forward(config)
    work = 3 * batch * (one.encode + one.denoise)
    limit = Sample(tuple(2 * PRODUCTS * side**3 / s for s in products["peak"].values))
    reached = Sample(tuple(work / s for s in samples[update].values))
    found = [
        Row(f"matrix products of {side}, {plan.dtype}", "TFLOP/s", limit.times(1e-12)),
        *rows_of(samples, [update, image]),
        Row(f"{update}: of the matrix peak", "%", ratio(reached, limit).times(100), 40),
    ]
    if most:
        found.append(figure("memory at most, training", "GB", most / 1e9))
    for said, times in beside.items():
        for name, key, bar in ((update, "update", None), (image, "image", 5.0)):
            if key in times:
                found.append(Row(f"{name}, authors, {said}", "ms", times[key].times(1e3)))
                speed = ratio(times[key], samples[name])
                found.append(Row(f"{name}: authors, {said} / ours", "x", speed, bar))
    return found
