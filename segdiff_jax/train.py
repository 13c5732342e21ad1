"""Trains a run: starts or resumes it, takes every step, saves and validates on the way."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax.checkpoint import manager, run_config, trust
from segdiff_jax.data.batches import batches, rows
from segdiff_jax.data.example import Batch, Example
from segdiff_jax.errors import UserError
from segdiff_jax.evaluation import scoring
from segdiff_jax.factory import datasets, networks, samplers
from segdiff_jax.factory.training import build_step, init_fn, jit_replicated, run_key
from segdiff_jax.runtime import consistency, distributed, files, lock, signals, watchdog
from segdiff_jax.training import flat_state
from segdiff_jax.training.metrics_writer import Pace, log, open_writer
from segdiff_jax.training.nonfinite import MetricsBuffer
from segdiff_jax.training.step import Metrics, TrainState, split_state


class Start:
    """The beginning of a training.

    Attributes:
      shapes: of the state, with how they lie on the devices; known before there is a state.
      layout: of the vectors that updates take in place of its trees.
    """

    def __init__(self, config: ConfigDict, examples: list[Example], mesh: Mesh) -> None:
        """Holds the examples to what the network takes.

        Raises:
          UserError: an example's sides are not what the network can halve as often as it does.
        """
        view = datasets.crop_fn(config)
        size = view(np.random.default_rng(0), examples[0])[1].shape
        networks.check_size(config, size, examples[0].name)
        short = sum(min(e.image.shape[:2]) < config.augment.crop for e in examples)
        if short and config.data.name != "cityscapes":
            logging.warning(
                "%d of %d training images are smaller than augment.crop=%d: reflected at the "
                "border",
                short,
                len(examples),
                config.augment.crop,
            )
        fresh = init_fn(config, size)
        self.shapes = manager.abstract(jax.eval_shape(fresh), distributed.everywhere(mesh))
        self.layout = flat_state.FlatLayout(self.shapes.params)

        def begin() -> TrainState:
            return self.layout.flatten_state(fresh())

        # as vectors at once: a program of 574 results, and one that joins them, load slowly
        self._program = jit_replicated(begin, mesh)

    def state(self, checkpoints: manager.Checkpoints) -> TrainState:
        """Returns the latest checkpoint, or fresh weights that are a function of the seed.

        Either is joined by `layout`.
        """
        found = checkpoints.restore(split_state(self.shapes))
        if found is not None:
            return self.layout.flatten_state_donating(TrainState(ema_params=found[0], **found[1]))
        return signals.call_interruptible(self._program)


class CompiledStep:
    """A state and a batch in, the next state and its metrics out.

    Attributes:
      layout: of the vectors that the state consists of.
    """

    def __init__(
        self, config: ConfigDict, shapes: TrainState, layout: flat_state.FlatLayout, mesh: Mesh
    ) -> None:
        """Nothing is compiled yet.

        Args:
          config: of the run.
          shapes: of a state, as trees.
          layout: of the vectors in their place.
          mesh: of all devices.
        """
        self.layout = layout
        joined = jax.eval_shape(layout.flatten_state, shapes)
        self._shapes = manager.abstract(joined, distributed.everywhere(mesh))
        self._step = build_step(config, mesh, self.layout)
        self._key = run_key(config.seed, mesh)
        self._ahead: threading.Thread | None = None

    def compile_ahead(self, rows: Batch) -> None:
        """Compiles for rows like these in a thread, while there is no state yet.

        Only where one process can: several might find each other compiling different programs. An
        error is left to the first update, which makes it again.
        """
        lower = getattr(self._step, "lower", None)
        if jax.process_count() > 1 or lower is None:
            return

        def work() -> None:
            try:
                lower(self._shapes, rows, self._key).compile()
            except Exception:
                return

        self._ahead = threading.Thread(target=work, name="compile_ahead", daemon=True)
        self._ahead.start()

    def __call__(self, state: TrainState, rows: Batch) -> tuple[TrainState, Metrics]:
        """Makes an update; the state, joined by `layout`, is taken. The first call compiles."""
        if self._ahead is not None:
            self._ahead.join()
            self._ahead = None
        return self._step(state, rows, self._key)


def device_batches(
    config: ConfigDict, examples: list[Example], first: int, mesh: Mesh
) -> Iterator[Batch]:
    """Yields the rows of update first + 1, first + 2, ... as uint8 on the devices."""
    process = jax.process_index(), jax.process_count()
    c, view = config.train, datasets.crop_fn(config)
    for batch in batches(examples, c.batch_size, config.seed, first, process, view):
        yield distributed.split_rows(batch, mesh)


def due(step: int, every: int, last: int) -> bool:
    """Whether what happens every so many steps (0: never), and at the last, happens now."""
    return every > 0 and (step % every == 0 or step == last)


def train(config: ConfigDict, workdir: Path) -> TrainState:
    """Trains until config.train.steps updates are made, and keeps all that changes in workdir.

    Called again with the same workdir it goes on where the last checkpoint was written; the result
    is the same as without the interruption. A finished run is left as it is.

    Args:
      config: checked by `validate`.
      workdir: made if need be.

    Returns:
      The last state, replicated over all devices.

    Raises:
      UserError: the data, the work directory or its checkpoints do not fit; another process uses
        the directory; it cannot be written to; or the loss is no number any more.
    """
    writing_process = jax.process_index() == 0
    trust.check_workdir(workdir)
    with lock.locked(workdir) if writing_process else nullcontext():
        if writing_process:
            files.check_writable(workdir)
        with signals.time_limit(config.train.max_seconds):
            return _train(config, workdir)


def _train(config: ConfigDict, workdir: Path) -> TrainState:
    with signals.raise_on_signal():  # nothing is lost before an update is made
        mesh = distributed.all_devices()
        config, examples = _opened(config, workdir, mesh)
        checkpoints = manager.Checkpoints(workdir)
        start = Start(config, examples, mesh)
        updates = CompiledStep(config, start.shapes, start.layout, mesh)
        if checkpoints.latest() < config.train.steps:
            updates.compile_ahead(next(device_batches(config, examples, 0, mesh)))
        state = start.state(checkpoints)
    first, last = int(state.step), config.train.steps
    if first >= last:
        logging.info("%s: already trained, %d of %d updates", workdir, first, last)
    else:
        logging.info(
            "training on %d images, %d devices, from update %d", len(examples), mesh.size, first
        )
        state = loop(config, workdir, state, examples, checkpoints, mesh, updates)
    checkpoints.close()
    return distributed.replicate(start.layout.to_host(state), mesh)


def _opened(config: ConfigDict, workdir: Path, mesh: Mesh) -> tuple[ConfigDict, list[Example]]:
    """Returns the config with its statistics and what is trained on, held to what was before."""
    if config.train.batch_size % mesh.size:
        raise UserError(
            f"train.batch_size is {config.train.batch_size}; allowed: multiples of the number of "
            f"devices, {mesh.size}"
        )
    config = datasets.with_statistics(config)
    run_config.check_resume(config, workdir)
    if jax.process_index() == 0:
        run_config.write_config(config, workdir)
    examples = datasets.examples(config, config.data.train_split)
    if jax.process_index() == 0 and config.data.train_images:
        names = "".join(f"{example.name}\n" for example in examples)
        (workdir / "training_images.txt").write_text(names)
    if jax.process_count() > 1:
        consistency.check(consistency.data_facts(examples, config.data.train_split))
    return config, examples


def loop(
    config: ConfigDict,
    workdir: Path,
    state: TrainState,
    examples: list[Example],
    checkpoints: manager.Checkpoints,
    mesh: Mesh,
    updates: CompiledStep,
) -> TrainState:
    """Takes every step from state.step to the last, logging, saving and evaluating on the way.

    The state, and that which is returned, is one that `updates.layout` has joined.
    """
    c = config.train
    first, last = int(state.step), c.steps
    writer = open_writer(workdir, first, enabled=jax.process_index() == 0)
    layout = updates.layout
    validate = validator(config, mesh, layout)
    batch = device_batches(config, examples, first, mesh)
    pace = Pace(first, last)
    names = partial(row_names, config, examples)
    numbers = MetricsBuffer(c.skip_nonfinite, names, checkpoints.last_good)
    with closing(writer), signals.defer_signals() as request:
        for step in range(first + 1, last + 1):
            if step == first + 1:
                take = partial(updates, state, next(batch))
                state, metrics = first_update(take, request, f"update {step} of {last}")
                logging.info("first update after %.1f s", pace.restart())
                gc.enable()  # see main
            else:
                state, metrics = updates(state, next(batch))
            numbers.push(step, metrics)
            checkpoints.check()
            watchdog.heartbeat(f"update {step}")
            if due(step, c.log_every, last):
                log(writer, step, numbers.pop_means(), pace)
            scores = None
            if due(step, c.evaluate_every, last):
                numbers.flush()
                watchdog.expect_compilation(f"the validation at update {step}")
                scores = request.run_interruptible(partial(validate, state))
                if scores is not None:
                    writer.scalars(step, {f"validation_{name}": x for name, x in scores.items()})
                pace.restart(step)
            stop = request.is_set()
            if stop or due(step, c.checkpoint_every or last, last):
                numbers.flush()
                checkpoints.save(step, *split_state(layout.to_host(state)), scores)
            if stop:
                checkpoints.close()  # waits until it is written
                raise request.error(f"stopped at update {step} of {last}; the same command goes on")
    return state


def first_update(
    take: Callable[[], tuple[TrainState, Metrics]], request: signals.StopRequest, which: str
) -> tuple[TrainState, Metrics]:
    """Takes the update that compiles the step, and waits for it.

    Args:
      take: the step, with all it is given.
      request: whether to stop.
      which: "update N of M".

    Raises:
      TerminatedError, KeyboardInterrupt: a signal broke it off.
    """
    logging.info("compiling the training step")
    finished = partial(signals.call_interruptible, lambda: jax.block_until_ready(take()))
    told = f"stopped before {which}: nothing is new since the start; the same command goes on"
    return request.run_or_exit(finished, told)


def row_names(config: ConfigDict, examples: list[Example], step: int) -> list[str]:
    """Returns the names of the examples that update `step`, from 1, has seen, row by row."""
    chosen = rows(config.seed, step - 1, config.train.batch_size, len(examples))
    return [examples[i].name for i in chosen]


def validator(
    config: ConfigDict, mesh: Mesh, layout: flat_state.FlatLayout
) -> Callable[[TrainState], dict[str, float]]:
    """Returns what scores a state on the validation split; the program is compiled once.

    The state is one that `layout` has joined.
    """
    if not config.train.evaluate_every:
        return lambda state: {}
    examples = datasets.scored_examples(config, config.data.validation_split)
    segmenter = samplers.segmenter(config, None, mesh)

    def validate(state: TrainState) -> dict[str, float]:
        params = distributed.replicate(layout.to_host(state.ema_params), mesh)
        weighted = replace(segmenter, params=params)  # shares the compiled program
        scores = scoring.mean_scores(weighted, examples, config.seed)
        logging.info("validation: %s", ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
        return scores

    return validate
