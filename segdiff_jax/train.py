"""The loop: from a config to trained weights in a work directory, resumed where it stopped."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax import (
    agreement,
    answering,
    build,
    checkpoint,
    collecting,
    flat,
    interruption,
    lock,
    parallel,
    untrusted,
    watchdog,
    writing,
)
from segdiff_jax.data.batches import rows
from segdiff_jax.data.example import Example
from segdiff_jax.errors import UserError
from segdiff_jax.finite import Numbers
from segdiff_jax.progress import Pace, log
from segdiff_jax.starting import Start, split_state
from segdiff_jax.step import Metrics, TrainState
from segdiff_jax.updates import Updates, device_batches
from segdiff_jax.writers import open_writer


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
    untrusted.require_places(workdir)
    with lock.held(workdir) if writing_process else nullcontext():
        if writing_process:
            writing.probe(workdir)
        with interruption.limited(config.train.max_seconds):
            return _train(config, workdir)


def _train(config: ConfigDict, workdir: Path) -> TrainState:
    with interruption.at_once():  # nothing is lost before an update is made
        mesh = parallel.all_devices()
        config, examples = _opened(config, workdir, mesh)
        checkpoints = checkpoint.Checkpoints(workdir)
        start = Start(config, examples, mesh)
        updates = Updates(config, start.shapes, start.layout, mesh)
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
    return parallel.replicate(start.layout.on_host(state), mesh)


def _opened(config: ConfigDict, workdir: Path, mesh: Mesh) -> tuple[ConfigDict, list[Example]]:
    """Returns the config with its statistics and what is trained on, held to what was before."""
    if config.train.batch_size % mesh.size:
        raise UserError(
            f"train.batch_size is {config.train.batch_size}; allowed: multiples of the number of "
            f"devices, {mesh.size}"
        )
    config = build.with_statistics(config)
    checkpoint.hold_to_training(config, workdir)
    if jax.process_index() == 0:
        checkpoint.write_config(config, workdir)
    examples = build.examples(config, config.data.train_split)
    if jax.process_index() == 0 and config.data.train_images:
        names = "".join(f"{example.name}\n" for example in examples)
        (workdir / "training_images.txt").write_text(names)
    if jax.process_count() > 1:
        agreement.require(agreement.of_examples(examples, config.data.train_split))
    return config, examples


def loop(
    config: ConfigDict,
    workdir: Path,
    state: TrainState,
    examples: list[Example],
    checkpoints: checkpoint.Checkpoints,
    mesh: Mesh,
    updates: Updates,
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
    numbers = Numbers(c.skip_nonfinite, names, checkpoints.last_good)
    with closing(writer), interruption.deferred() as request:
        for step in range(first + 1, last + 1):
            if step == first + 1:
                take = partial(updates, state, next(batch))
                state, metrics = first_update(take, request, f"update {step} of {last}")
                logging.info("first update after %.1f s", pace.restart())
                collecting.as_usual()
            else:
                state, metrics = updates(state, next(batch))
            numbers.add(step, metrics)
            checkpoints.check()
            watchdog.alive(f"update {step}")
            if due(step, c.log_every, last):
                log(writer, step, numbers.take(), pace)
            scores = None
            if due(step, c.evaluate_every, last):
                numbers.settle()
                watchdog.patient(f"the validation at update {step}")
                scores = request.unless_stopped(partial(validate, state))
                if scores is not None:
                    writer.scalars(step, {f"validation_{name}": x for name, x in scores.items()})
                pace.restart(step)
            stop = request.holds()
            if stop or due(step, c.checkpoint_every or last, last):
                numbers.settle()
                checkpoints.save(step, *split_state(layout.on_host(state)), scores)
            if stop:
                checkpoints.close()  # waits until it is written
                raise request.error(f"stopped at update {step} of {last}; the same command goes on")
    return state


def first_update(
    take: Callable[[], tuple[TrainState, Metrics]], request: interruption.Request, which: str
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
    finished = partial(interruption.interruptible, lambda: jax.block_until_ready(take()))
    told = f"stopped before {which}: nothing is new since the start; the same command goes on"
    return request.unless_ended(finished, told)


def row_names(config: ConfigDict, examples: list[Example], step: int) -> list[str]:
    """Returns the names of the examples that update `step`, from 1, has seen, row by row."""
    chosen = rows(config.seed, step - 1, config.train.batch_size, len(examples))
    return [examples[i].name for i in chosen]


def validator(
    config: ConfigDict, mesh: Mesh, layout: flat.Layout
) -> Callable[[TrainState], dict[str, float]]:
    """Returns what scores a state on the validation split; the program is compiled once.

    The state is one that `layout` has joined.
    """
    if not config.train.evaluate_every:
        return lambda state: {}
    examples = build.scored(config, config.data.validation_split)
    segmenter = build.segmenter(config, None, mesh)

    def validate(state: TrainState) -> dict[str, float]:
        params = parallel.replicate(layout.on_host(state.ema_params), mesh)
        weighted = replace(segmenter, params=params)  # shares the compiled program
        scores = answering.mean_scores(weighted, examples, config.seed)
        logging.info("validation: %s", ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
        return scores

    return validate
