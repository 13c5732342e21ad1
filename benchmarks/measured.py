"""Times networks: training, input, sampling, and one tile of full size."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from benchmarks import elsewhere, ours
from benchmarks.network_input import side_of
from benchmarks.timing import Row, Sample, Work, alternate, ratio, rows_of
from configs import monuseg
from segdiff_jax.factory import datasets
from segdiff_jax.factory.training import device_batches
from segdiff_jax.runtime import distributed
from segdiff_jax.training import nonfinite

DRAWS = 4
STEPS = nonfinite.MAX_STEPS_IN_FLIGHT  # training steps of one time measurement


class Plan(NamedTuple):
    """The settings of all parts.

    Attributes:
      config: the reduced one.
      repeats: the number of measurements of each workload.
      authors: checkout of their repository; None: ours alone.
      dtype: of our activations in the full configuration.
    """

    config: ConfigDict
    repeats: int
    authors: Path | None
    dtype: str = "float32"

    def theirs(self, config: ConfigDict) -> AbstractContextManager[elsewhere.Elsewhere | None]:
        """Returns a context with their network of a config in its process, or with None."""
        if not self.authors:
            return nullcontext()
        return elsewhere.started(elsewhere.command(self.authors), config, side_of(config))


def compared(samples: dict[str, Sample], name: str, bar: float | None = None) -> list[Row]:
    """Returns the times of a workload of both sides, and how many times faster ours is."""
    pair = f"{name}, ours", f"{name}, authors"
    rows = rows_of(samples, pair)
    if pair[1] in samples:
        speed = ratio(samples[pair[1]], samples[pair[0]])
        rows.append(Row(f"{name}: authors / ours", "x", speed, bar))
    return rows


def training(plan: Plan) -> list[Row]:
    """Times a training step at the batch of the config, and one with several draws per image.

    Several steps follow each other, as in training. Between measurements memory is idle and a
    virtual machine may return it to its host; a longer measurement hides the cost of its return.
    """
    config, mesh = plan.config, distributed.all_devices()
    batch = config.train.batch_size
    examples = ours.made_up(2 * batch, side_of(config))
    draws = ours.changed(config, train__noise_draws_per_image=DRAWS)
    one, more = "training step, ours", f"training step, {DRAWS} draws an image"
    rows, rows_of_draws = (ours.constant_rows(c, examples, mesh) for c in (config, draws))
    works: dict[str, Work] = {
        one: ours.training_step(config, mesh, rows, STEPS),
        more: ours.training_step(draws, mesh, rows_of_draws, STEPS),
    }
    with plan.theirs(config) as theirs:
        if theirs:
            update = theirs.training_step(batch)
            works["training step, authors"] = lambda: [update() for _ in range(STEPS)]
        turns = alternate(works, plan.repeats)
    samples = {name: turn.times(1 / STEPS) for name, turn in turns.items()}
    cheaper = ratio(samples[one], samples[more]).times(DRAWS)
    return [
        *compared(samples, "training step", 1.25),
        *rows_of(samples, [more]),
        Row(f"a draw: alone / one of {DRAWS}", "x", cheaper, 2.5),
    ]


def data(plan: Plan) -> list[Row]:
    """Times batches alone, and training steps with real input and with a constant batch."""
    config, mesh = plan.config, distributed.all_devices()
    datasets.source(config).prepare()
    examples = datasets.source(config).load(config.data.train_split)
    full = monuseg.get_config()
    crops = device_batches(full, ours.made_up(30, 512), 0, mesh)
    batches = device_batches(config, examples, 0, mesh)
    alone = alternate(
        {
            "a batch, reduced configuration": lambda: jax.block_until_ready(next(batches)),
            f"a batch of {full.train.batch_size}, MoNuSeg": lambda: jax.block_until_ready(
                next(crops)
            ),
        },
        plan.repeats,
    )
    constant, real = f"{STEPS} updates, constant batch", f"{STEPS} updates, real input"
    rows = ours.constant_rows(config, examples, mesh)
    updates = alternate(
        {
            constant: ours.training_step(config, mesh, rows, STEPS),
            real: ours.training_step(
                config, mesh, device_batches(config, examples, 0, mesh), STEPS
            ),
        },
        plan.repeats,
    )
    cost = ratio(updates[real], updates[constant])
    return [
        *rows_of(alone, list(alone)),
        *rows_of(updates, [constant, real]),
        Row("real input / constant batch", "x", cost, 1.02, least=False),
    ]


def sampling(plan: Plan) -> list[Row]:
    """Times G alone, a reverse step of all generations, and all steps of all generations."""
    config, mesh = plan.config, distributed.all_devices()
    S, T = config.sampling.generations, config.sampling.steps
    params = ours.fresh_state(config, mesh).params
    alone = ours.on_one_device(params)
    whole = f"one image, {S} generations of {T} steps"
    works: dict[str, Work] = {
        "G of one image, ours": ours.encoding(config, alone, 1),
        f"reverse step of {S} rows, ours": ours.reverse_step(config, alone, S),
        f"{whole}, ours": ours.sampling(config, params, mesh, side_of(config)),
    }
    with plan.theirs(config) as theirs:
        if theirs:
            works["G of one image, authors"] = theirs.encoding(1)
            works[f"reverse step of {S} rows, authors"] = theirs.reverse_step(S)
            works[f"{whole}, authors"] = theirs.sampling(S, T)
        samples = alternate(works, plan.repeats)
    return [
        *compared(samples, "G of one image"),
        *compared(samples, f"reverse step of {S} rows"),
        *compared(samples, whole, 6.0),
    ]


def full_tile(plan: Plan) -> list[Row]:
    """Times the authors' MoNuSeg network on a tile of 256x256: G, and a reverse step without G."""
    config, mesh = monuseg.get_config(), distributed.all_devices()
    alone = ours.on_one_device(ours.fresh_state(config, mesh).params)
    works: dict[str, Work] = {
        "G of one tile, ours": ours.encoding(config, alone, 1),
        "reverse step of one tile, ours": ours.reverse_step(config, alone, 1),
    }
    with plan.theirs(config) as theirs:
        if theirs:
            works["G of one tile, authors"] = theirs.encoding(1)
            works["reverse step of one tile, authors"] = theirs.reverse_step(1)
        samples = alternate(works, plan.repeats)
    return [
        *compared(samples, "G of one tile"),
        *compared(samples, "reverse step of one tile", 3.0),
    ]
