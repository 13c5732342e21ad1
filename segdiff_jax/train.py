"""The loop: from a config to trained weights in a work directory, resumed where it stopped."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax import build, checkpoint, evaluate, interruption, parallel
from segdiff_jax.data.batches import batches
from segdiff_jax.data.example import Batch, Example
from segdiff_jax.errors import UserError
from segdiff_jax.progress import Pace, check_finite, log
from segdiff_jax.step import TrainState, init_state, train_step
from segdiff_jax.writers import open_writer

# Steps the host may run ahead of the devices: enough to hide it, few enough for Ctrl-C to be quick
# and for the collectives of virtual CPU devices, which time out behind a long queue.
AHEAD = 8


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
      UserError: the data, the work directory or its checkpoints do not fit, or the loss is no
        number any more.
    """
    mesh = parallel.all_devices()
    if config.train.batch_size % mesh.size:
        raise UserError(
            f"train.batch_size is {config.train.batch_size}; allowed: multiples of the number of "
            f"devices, {mesh.size}"
        )
    config = build.with_statistics(config)
    writing = jax.process_index() == 0
    if writing:
        workdir.mkdir(parents=True, exist_ok=True)
        checkpoint.write_config(config, workdir)
    examples = build.examples(config, config.data.train_split)
    if writing and config.data.train_images:
        names = "".join(f"{example.name}\n" for example in examples)
        (workdir / "training_images.txt").write_text(names)
    checkpoints = checkpoint.Checkpoints(workdir)
    state = start_state(config, examples, checkpoints, mesh)
    first, last = int(state.step), config.train.steps
    if first >= last:
        logging.info("%s: already trained, %d of %d updates", workdir, first, last)
    else:
        logging.info(
            "training on %d images, %d devices, from update %d", len(examples), mesh.size, first
        )
        state = loop(config, workdir, state, examples, checkpoints, mesh)
    checkpoints.close()
    return state


def start_state(
    config: ConfigDict,
    examples: list[Example],
    checkpoints: checkpoint.Checkpoints,
    mesh: Mesh,
) -> TrainState:
    """Returns the latest checkpoint, or fresh weights that are a function of the seed."""
    view = build.view(config)
    size = view(np.random.default_rng(0), examples[0])[1].shape
    build.check_size(config, size, examples[0].name)
    short = sum(min(e.image.shape[:2]) < config.augment.crop for e in examples)
    if short and config.data.name != "cityscapes":
        logging.warning(
            "%d of %d training images are smaller than augment.crop=%d: reflected at the border",
            short,
            len(examples),
            config.augment.crop,
        )
    fresh = partial(init_state, build.objective(config), build.optimizer(config), size)
    everywhere = parallel.everywhere(mesh)

    def begin() -> TrainState:
        return fresh(jax.random.key(config.seed))

    found = checkpoints.restore(split_state(checkpoint.abstract(jax.eval_shape(begin), everywhere)))
    if found is not None:
        return TrainState(ema_params=found[0], **found[1])
    # hundreds of small random draws: optimizing them takes a CPU half a minute and saves nothing
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(begin, out_shardings=everywhere, compiler_options=options)()


def split_state(state: TrainState) -> tuple[dict, dict]:
    """The two parts of a checkpoint: the averaged weights, and the rest."""
    return state.ema_params, {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
    }


def loop(
    config: ConfigDict,
    workdir: Path,
    state: TrainState,
    examples: list[Example],
    checkpoints: checkpoint.Checkpoints,
    mesh: Mesh,
) -> TrainState:
    """Takes every step from state.step to the last, logging, saving and evaluating on the way."""
    c = config.train
    first, last = int(state.step), c.steps
    writer = open_writer(workdir, first, enabled=jax.process_index() == 0)
    validate = validator(config, mesh)
    step_fn = build_step(config, mesh)
    key = run_key(config.seed, mesh)
    rows = device_batches(config, examples, first, mesh)
    pace, running, window = Pace(first, last), deque(maxlen=AHEAD), []
    logging.info("compiling the training step")
    with closing(writer), interruption.deferred() as request:
        for step in range(first + 1, last + 1):
            state, metrics = step_fn(state, next(rows), key)
            if len(running) == AHEAD:
                jax.block_until_ready(running[0])
            running.append(metrics)
            window.append(metrics)
            if step == first + 1:
                jax.block_until_ready(metrics)
                logging.info("first update after %.1f s", pace.restart())
            if due(step, c.log_every, last):
                log(writer, step, window, pace)
                window.clear()
            scores = None
            if due(step, c.evaluate_every, last):
                with request.breaks_off():
                    scores = validate(state)
                    writer.scalars(step, {f"validation_{name}": x for name, x in scores.items()})
                pace.restart(step)
            stop = request.holds(step)
            if stop or due(step, c.checkpoint_every or last, last):
                check_finite(step, metrics)
                checkpoints.save(step, *split_state(state), scores)
            if stop:
                checkpoints.close()  # waits until it is written
                raise request.error(f"stopped at update {step} of {last}; the same command goes on")
    return state


def run_key(seed: int, mesh: Mesh) -> jax.Array:
    """Returns the key all randomness of training follows from, on every device."""
    make = partial(jax.random.fold_in, jax.random.key(seed), 1)
    return jax.jit(make, out_shardings=parallel.everywhere(mesh))()


def build_step(config: ConfigDict, mesh: Mesh) -> Callable:
    """Returns (state, rows, key) -> (state, metrics), compiled and mapped over the mesh."""
    step = partial(
        train_step,
        objective=build.objective(config),
        optimizer=build.optimizer(config),
        ema_decay=build.ema_decay(config),
    )
    return parallel.map_step(step, mesh, config.train.map)


def device_batches(
    config: ConfigDict, examples: list[Example], first: int, mesh: Mesh
) -> Iterator[Batch]:
    """Yields the rows of update first + 1, first + 2, ... as uint8 on the devices."""
    process = jax.process_index(), jax.process_count()
    c, view = config.train, build.view(config)
    for batch in batches(examples, c.batch_size, config.seed, first, process, view):
        yield parallel.split_rows(batch, mesh)


def validator(config: ConfigDict, mesh: Mesh) -> Callable[[TrainState], dict[str, float]]:
    """Returns what scores a state on the validation split; the program is compiled once."""
    if not config.train.evaluate_every:
        return lambda state: {}
    examples = build.scored(config, config.data.validation_split)
    segmenter = build.segmenter(config, None, mesh)

    def validate(state: TrainState) -> dict[str, float]:
        weighted = replace(segmenter, params=state.ema_params)  # shares the compiled program
        scores = evaluate.mean_scores(weighted, examples, config.seed)
        logging.info("validation: %s", ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
        return scores

    return validate
