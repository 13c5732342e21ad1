"""Trains a run: starts or resumes it, takes every training step, saves and validates on the way."""

import gc
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from segdiff_jax import trained_run
from segdiff_jax.checkpoint import manager, places, run_config, run_data
from segdiff_jax.data.batches import rows
from segdiff_jax.data.digests import digests
from segdiff_jax.data.example import Batch, Example
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.evaluation import object_sizes, scoring
from segdiff_jax.factory import datasets, memory, training
from segdiff_jax.factory.training import TrainOptions, TrainSetup
from segdiff_jax.models.segdiff import Params
from segdiff_jax.runtime import (
    consistency,
    distributed,
    files,
    lock,
    own_files,
    signals,
    watchdog,
)
from segdiff_jax.training.metrics_writer import Pace, RunWriter, log
from segdiff_jax.training.nonfinite import MetricsBuffer
from segdiff_jax.training.step import Metrics, TrainState, split_state

# what a training writes in its work directory
FILES = ("config.json", run_data.NAME, "metrics.jsonl", "parameters.txt", "training_images.txt")
FOLDERS = ("checkpoints", "tensorboard")


def train(config: ConfigDict, workdir: Path) -> TrainState:
    """Trains until config.train.steps steps are taken; keeps everything that changes in workdir.

    Called again with the same workdir it resumes from the last checkpoint; the result is bit-equal
    to that of an uninterrupted run. A finished run is left as it is.

    Args:
      config: checked by `validate`.
      workdir: created if missing.

    Returns:
      The last state, replicated over all devices.

    Raises:
      UserError: the data, the work directory or its checkpoints do not fit; another process uses
        the directory; it cannot be written to; or the loss becomes NaN or inf.
    """
    writing_process = jax.process_index() == 0
    own_files.check(workdir, FILES, FOLDERS)
    if (workdir / places.WEIGHTS).exists():
        begin = f"--config.train.start_from={workdir} and another --workdir begin with it"
        raise UserError(f"{workdir} holds an exported model, and no run: {begin}", BAD_CHECKPOINT)
    with lock.locked(workdir) if writing_process else nullcontext():
        if writing_process:
            files.check_writable(workdir)
        with signals.time_limit(config.train.max_seconds):
            return _train(config, workdir)


def _train(config: ConfigDict, workdir: Path) -> TrainState:
    with signals.raise_on_signal():  # nothing is lost before a step is taken
        config, source = run_config.start_of(config, workdir)
        setup = prepare(config, workdir)
        checkpoints = manager.Checkpoints(workdir)
        if config.train.start_from:
            begin = partial(state_of_weights, setup, config.train.start_from, source)
            setup = replace(setup, initial_state=begin)
        explained = partial(memory.explained, config, setup.size, setup.mesh.size)
        step = CompiledStep(setup, explained)
        if checkpoints.latest() < setup.options.steps:
            step.compile_ahead(next(setup.batches(0)))
        with explained():
            state = start(setup, checkpoints)
    first, last = int(state.step), setup.options.steps
    if first >= last:
        logging.info("%s: already trained, %d of %d updates", workdir, first, last)
    else:
        counts = len(setup.examples), setup.mesh.size, setup.rows.describe(), first
        logging.info("training on %d images, %d devices (%s), from update %d", *counts)
        state = loop(setup, workdir, state, step, checkpoints)
    checkpoints.close()
    return distributed.replicate(setup.layout.to_host(state), setup.mesh)


def prepare(config: ConfigDict, workdir: Path) -> TrainSetup:
    """Checks the config against the run in workdir, records it there, and builds the setup.

    Raises:
      UserError: the config does not fit the run, or processes read different data.
    """
    mesh, split = distributed.all_devices(), config.data.train_split
    examples = datasets.training_examples(config)
    if jax.process_count() > 1:  # before anything is compared with what process 0 may be writing
        consistency.check(consistency.data_facts(examples, split))
    config = run_config.with_saved_statistics(config, workdir)
    config = datasets.with_statistics(config, examples)
    run_config.check_resume(config, workdir)
    config = record_data(config, examples, workdir)
    if jax.process_index() == 0:
        run_config.write_config(config, workdir)
        if config.data.train_images:
            names = "".join(f"{example.name}\n" for example in examples)
            (workdir / "training_images.txt").write_text(names)
    return training.setup(config, examples, mesh)


def record_data(config: ConfigDict, examples: list[Example], workdir: Path) -> ConfigDict:
    """Checks the data against those of the run in workdir, and returns the config with them.

    Raises:
      UserError: they are others, and config.data.allow_change is not set.
    """
    now = {run_data.TRAIN: digests(examples)}
    if (validation := datasets.digests_to_validate(config)) is not None:
        now[run_data.VALIDATION] = validation
    if (workdir / "config.json").exists():
        recorded = run_config.recorded_fingerprint(workdir)
        run_data.check(workdir, recorded, now, config.data.allow_change)
    if jax.process_index() == 0:
        run_data.write(workdir, now)
    config = config.copy_and_resolve_references()
    config.data.fingerprint = run_data.fingerprint(now[run_data.TRAIN])
    config.data.objects = tuple(round(one, 2) for one in object_sizes.typical(examples))
    config.data.pixel_size = object_sizes.pixel_size(examples)
    return config


def start(setup: TrainSetup, checkpoints: manager.Checkpoints) -> TrainState:
    """Returns the state of the latest checkpoint, or fresh weights; as flat vectors."""
    like = manager.abstract(setup.shapes, distributed.everywhere(setup.mesh))
    if (found := checkpoints.restore(split_state(like))) is None:
        return signals.call_interruptible(setup.initial_state)
    return setup.layout.flatten_state_donating(TrainState(ema_params=found[0], **found[1]))


def state_of_weights(setup: TrainSetup, name: str, source: Path | None) -> TrainState:
    """Returns the state that begins with the averaged weights of a model, flat, on every device.

    Args:
      setup: of the run.
      name: of the model, see `places.find`.
      source: its folder; None: it is looked for.

    Raises:
      UserError: there is no such model, or it is damaged.
    """
    source = source or places.find(name)
    trained = run_config.read_config(source)
    step, params = trained_run.restore_ema(trained, source, setup.mesh)
    logging.info("training begins with the weights of %s after %d updates", name, step)
    flat = np.concatenate([np.asarray(x).reshape(-1) for x in jax.tree.leaves(params)])
    weights, averaged = (distributed.replicate(flat, setup.mesh) for _ in range(2))
    fresh = setup.initial_state()
    return TrainState(fresh.step, weights, averaged, fresh.opt_state)


class CompiledStep:
    """Takes training steps of flat states: (state, rows) -> (next state, metrics).

    Args:
      setup: of the run.
      explained: returns a context in which an error of too little memory is explained.
    """

    def __init__(
        self, setup: TrainSetup, explained: Callable[[], AbstractContextManager] = nullcontext
    ) -> None:
        self._setup, self._explained, self._runs = setup, explained, False
        self._ahead: threading.Thread | None = None

    def compile_ahead(self, rows: Batch) -> None:
        """Compiles for rows of these shapes in a thread, before there is a state.

        In a job of one process only: several could compile different programs. An error is left to
        the first step, which raises it again.
        """
        setup = self._setup
        lower = getattr(setup.step, "lower", None)
        if jax.process_count() > 1 or lower is None:
            return
        flat = jax.eval_shape(setup.layout.flatten_state, setup.shapes)
        shapes = manager.abstract(flat, distributed.everywhere(setup.mesh))

        def work() -> None:
            with suppress(Exception):
                lower(shapes, rows, setup.key).compile()

        self._ahead = threading.Thread(target=work, name="compile_ahead", daemon=True)
        self._ahead.start()

    def __call__(self, state: TrainState, rows: Batch) -> tuple[TrainState, Metrics]:
        """Takes a step; the state is donated. The first call compiles, and waits for its result."""
        if self._ahead is not None:
            self._ahead.join()
            self._ahead = None
        if self._runs:
            return self._setup.step(state, rows, self._setup.key)
        with self._explained():
            result = jax.block_until_ready(self._setup.step(state, rows, self._setup.key))
        self._runs = True
        return result


def loop(
    setup: TrainSetup,
    workdir: Path,
    state: TrainState,
    step: CompiledStep,
    checkpoints: manager.Checkpoints,
) -> TrainState:
    """Takes every step from state.step to the last; logs, validates and saves on the way."""
    options, first = setup.options, int(state.step)
    last, pace = options.steps, Pace(first, options.steps)
    batches, validate = setup.batches(first), validator(setup)
    writer = RunWriter(workdir, first, enabled=jax.process_index() == 0)
    names = partial(row_names, options, setup.examples)
    buffer = MetricsBuffer(options.skip_nonfinite, names, checkpoints.last_good)
    with closing(writer), signals.defer_signals() as request:
        writer.parameters(setup.shapes.params)
        for n in range(first + 1, last + 1):
            take = partial(step, state, next(batches))
            state, metrics = take() if n > first + 1 else first_step(take, request, n, pace)
            buffer.push(n, metrics)
            checkpoints.check()
            watchdog.heartbeat(f"update {n}")
            if due(n, options.log_every, last):
                log(writer, n, buffer.pop_means(), pace)
            scores = None
            if due(n, options.evaluate_every, last):
                buffer.flush()
                watchdog.expect_compilation(f"the validation at update {n}")
                scores = request.run_interruptible(partial(validate, state))
                if scores is not None:
                    writer.scalars(n, {f"validation_{name}": x for name, x in scores.items()})
                pace.restart(n)
            stop = request.is_set()
            if stop or due(n, options.checkpoint_every or last, last):
                buffer.flush()
                checkpoints.save(n, *split_state(setup.layout.to_host(state)), scores)
            if stop:
                checkpoints.close()  # waits until it is written
                raise request.error(f"stopped at update {n} of {last}; the same command goes on")
    return state


def due(step: int, every: int, last: int) -> bool:
    """Returns whether a periodic action (every 0: never) is due at a step; the last always is."""
    return every > 0 and (step % every == 0 or step == last)


def first_step(
    take: Callable[[], tuple[TrainState, Metrics]], request: signals.StopRequest, n: int, pace: Pace
) -> tuple[TrainState, Metrics]:
    """Takes step n of this process, which compiles, and waits for it.

    Raises:
      TerminatedError, KeyboardInterrupt: a signal interrupted it.
    """
    logging.info("compiling the training step")
    finished = partial(signals.call_interruptible, take)
    stopped = f"stopped before update {n} of {pace.last}: nothing is new since the start"
    result = request.run_or_exit(finished, f"{stopped}; the same command goes on")
    logging.info("first update after %.1f s", pace.restart())
    gc.enable()  # see main
    return result


def row_names(options: TrainOptions, examples: list[Example], step: int) -> list[str]:
    """Returns the names of the examples that training step `step`, from 1, sees, row by row."""
    chosen = rows(options.seed, step - 1, options.batch_size, len(examples))
    return [examples[i].name for i in chosen]


def averaged_weights(setup: TrainSetup, state: TrainState) -> Params:
    """Returns the averaged weights of a flat state, on every device."""
    return distributed.replicate(setup.layout.to_host(state.ema_params), setup.mesh)


def validator(setup: TrainSetup) -> Callable[[TrainState], dict[str, float]]:
    """Returns the function that scores a flat state on the validation split; it compiles once."""
    if not setup.options.evaluate_every:
        return lambda state: {}
    segmenter, examples = setup.validation()

    def validate(state: TrainState) -> dict[str, float]:
        with_params = replace(segmenter, params=averaged_weights(setup, state))
        scores = scoring.mean_scores(with_params, examples, setup.options.seed)
        logging.info("validation: %s", ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
        return scores

    return validate
