"""Times the guards of a run: training steps and saves with them and without them."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from benchmarks import ours
from benchmarks.measured import STEPS, Plan
from benchmarks.network_input import side_of
from benchmarks.timing import Row, Work, alternate, figure, ratio, rows_of
from segdiff_jax.checkpoint import checksums
from segdiff_jax.checkpoint.manager import Checkpoints, without_warnings
from segdiff_jax.data.example import Batch
from segdiff_jax.factory import training
from segdiff_jax.factory.training import build_step, run_key
from segdiff_jax.runtime import distributed
from segdiff_jax.training import nonfinite
from segdiff_jax.training.step import Metrics, TrainState, split_state


def rows(plan: Plan) -> list[Row]:
    """Times training steps with and without the test for NaN; saves with and without checksums."""
    mesh = distributed.all_devices()
    return [*updates(plan, mesh), *saves(plan, mesh)]


def updates(plan: Plan, mesh: Mesh) -> list[Row]:
    """Times training steps whose metrics are read asynchronously, and steps without metrics."""
    config = plan.config
    examples = ours.made_up(2 * config.train.batch_size, side_of(config))
    batch = ours.constant_rows(config, examples, mesh)
    with_, without = f"{STEPS} updates, guarded", f"{STEPS} updates, unguarded"
    samples = alternate(
        {
            with_: guarded_updates(config, mesh, batch),
            without: unguarded_updates(config, mesh, batch),
        },
        plan.repeats,
    )
    cost = ratio(samples[with_], samples[without])
    return [*rows_of(samples, [with_, without]), Row("guarded / unguarded", "x", cost)]


def guarded_updates(config: ConfigDict, mesh: Mesh, batch: Iterator[Batch]) -> Work:
    """Returns a workload of `STEPS` training steps that reads their metrics as training does."""
    metrics_buffer = nonfinite.MetricsBuffer(0, lambda step: [], lambda: "")

    def read(step: int, metrics: Metrics) -> None:
        metrics_buffer.push(step, metrics)
        if step % config.train.log_every == 0:  # the buffer must not grow
            metrics_buffer.pop_means()

    layout, state = ours.joined_state(config, mesh)
    return _updates(config, mesh, batch, state, build_step(config, mesh, layout), read)


def unguarded_updates(config: ConfigDict, mesh: Mesh, batch: Iterator[Batch]) -> Work:
    """Returns a workload of `STEPS` training steps without the test for NaN and inf."""
    layout, joined = ours.joined_state(config, mesh)
    learner = replace(training.learner(config), unflatten=layout.unflatten)

    def plain(
        state: TrainState, rows: Batch, key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        state, metrics = learner.update(state, rows, key)
        # XLA does not compute metrics that are not returned
        return state, {name: metrics[name] for name in nonfinite.METRICS}

    mapped = distributed.map_step(plain, mesh, config.train.map)
    return _updates(config, mesh, batch, joined, mapped, lambda step, metrics: None)


def _updates(
    config: ConfigDict,
    mesh: Mesh,
    batch: Iterator[Batch],
    state: TrainState,
    step_fn: Callable,
    read: Callable[[int, Metrics], None],
) -> Work:
    key, numbers = run_key(config.seed, mesh), count(1)

    def work() -> TrainState:
        nonlocal state
        for _ in range(STEPS):
            state, metrics = step_fn(state, next(batch), key)
            read(next(numbers), metrics)
        return jax.block_until_ready(state)

    return work


def saves(plan: Plan, mesh: Mesh) -> list[Row]:
    """Times checkpoints to the last byte, with and without checksums, and checksums alone."""
    layout, joined = ours.joined_state(plan.config, mesh)
    parts = split_state(layout.to_host(joined))  # as training saves it
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(parts))
    with_, without, alone = "a save, with sums", "a save, without", "the sums alone"
    with tempfile.TemporaryDirectory() as folder:
        guarded, plain = (Checkpoints(Path(folder, name)) for name in ("guarded", "plain"))
        numbers = count(1)

        def save() -> None:
            guarded.save(next(numbers), *parts, None)
            guarded.finish()

        def save_plainly() -> None:
            items = {"ema": parts[0], "training": parts[1]}
            args = {name: ocp.args.StandardSave(part) for name, part in items.items()}
            plain.manager.save(next(numbers), args=ocp.args.Composite(**args), force=True)
            plain.finish()

        works: dict[str, Work] = {
            with_: save,
            without: save_plainly,
            alone: lambda: [checksums.compute(part, finite=True) for part in parts],
        }
        with without_warnings():  # Orbax warns at each save that is waited for
            samples = alternate(works, plan.repeats)
        guarded.close()
        plain.close()
    cost = ratio(samples[with_], samples[without])
    return [
        figure("what is saved", "GB", size / 1e9),
        *rows_of(samples, list(works)),
        Row("save with sums / without", "x", cost),
    ]
