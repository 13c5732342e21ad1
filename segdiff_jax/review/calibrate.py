"""Fits what predictions say of their certainty, and stores it with the run.

    segdiff calibrate --workdir=RUN

The flags are in `cli.review_args`. jax is imported only once the command line is known to be
correct: that takes seconds.
"""

import math
from typing import Any

from absl import logging

from segdiff_jax.cli import app, review_args
from segdiff_jax.cli.review_args import Command
from segdiff_jax.errors import UserError
from segdiff_jax.runtime import own_files

LESS_MEMORY = "lower sampling.rows_at_once in the config.json of the run, or --samples"


def main(argv: list[str]) -> int:
    """Runs a command line, without the name of the program, and returns its exit code."""
    return app.run(run_command, argv, review_args.HELPS["calibrate"], LESS_MEMORY)


def run_command(argv: list[str]) -> None:
    """Parses a command line and runs it."""
    command = review_args.parse(argv, "calibrate")
    app.set_up_logging()
    from segdiff_jax import api
    from segdiff_jax.certainty import store
    from segdiff_jax.runtime import signals

    own_files.check(command.workdirs[0], (store.FILE,))
    with signals.raise_on_signal():
        calibrate(command, api.load(command.workdirs, **settings(command)))


def settings(command: Command) -> dict[str, Any]:
    """Returns the arguments of `api.load` that a command gives."""
    return {k: v for k, v in command.values.items() if k in review_args.SETTINGS}


def calibrate(command: Command, model: Any) -> None:
    """Fits a model, an `api.Model`, and writes calibration.json.

    Raises:
      UserError: there are no pictures for it, or the file cannot be written.
    """
    from segdiff_jax.certainty import calibration, store
    from segdiff_jax.review import pairs

    if command.images is None or command.masks is None:
        examples, source = split_examples(model, command.split or default_split(model))
    elif model.overlap:
        raise UserError(
            f"--masks={command.masks}: of classes that overlap each has masks of its own; allowed "
            "is --split=NAME of the run's data"
        )
    else:
        files = pairs.pair(command.images, command.masks, command.mask_suffix)
        examples = list(pairs.read(files, **pairs.settings_of(model, command.values)))
        source = f"{command.images.resolve()}"
    logging.info("predicting %d pictures of %s", len(examples), source)
    fitted = calibration.fit_examples(model.predictor, examples, model.key(), source)
    path = store.write(command.workdirs[0], model.settings(), fitted)
    for line in describe(fitted):
        logging.info("%s", line)
    logging.info("%s: fitted on %d pictures", path, fitted.n)


def default_split(model: Any) -> str:
    """Returns the name of the run's validation split."""
    return model.config.data.validation_split or "validation"


def split_examples(model: Any, split: str) -> tuple[list[Any], str]:
    """Returns the examples of a split of the run's data set, and what they are called.

    Raises:
      UserError: the run was trained on it, it is the test split, or there is no such split.
    """
    from segdiff_jax.factory import datasets

    c = model.config.data
    for used, why in ((c.train_split, "was trained on it"), (c.test_split, "is scored on it")):
        if set(split.split("+")) & set(used.split("+")):
            raise UserError(f"--split={split}: the run {why}; fit on other pictures")
    try:
        return datasets.scored_examples(model.config, split), f"split {split!r} of {c.name}"
    except UserError as error:
        hint = "give --images=DIR --masks=DIR of annotated pictures it was not trained on"
        raise UserError(f"{error}; or {hint}", error.code, error.details) from error


def describe(fitted: Any) -> list[str]:
    """Returns a line for each part of a calibration: what holds, and what is not calibrated."""
    lines = []
    for name in ("quality", "area", "count"):
        part = getattr(fitted, name)
        if part is None:
            lines.append(f"{name}: not calibrated, {fitted.n} pictures are too few")
            continue
        held = [f"{100 * level:g} %" for level, width in part.width.items() if width is not None]
        less = [f"{100 * level:g} %" for level, width in part.width.items() if width is None]
        basis = f", {part.centre} by {part.scale}" if name != "quality" else ""
        missing = f"; too few pictures for {', '.join(less)}" if less else ""
        lines.append(f"{name}: intervals of {', '.join(held)}{basis}{missing}")
    for name, parts in fitted.classes.items():
        said = [f"{key} {'not ' if part is None else ''}calibrated" for key, part in parts.items()]
        lines.append(f"class {name}: {', '.join(said)}")
    for name, what in (
        ("confidence", "too few wrong objects, or right ones"),
        ("suspicion", "too few pictures"),
        ("pixels", "no foreground, or no background"),
    ):
        lines.append(
            f"{name}: {'not calibrated, ' + what if not getattr(fitted, name) else 'fitted'}"
        )
    least = math.ceil(1e4 / (fitted.n + 1)) / 100
    return [*lines, f"risk: masks for --risk of more than {least} %"]
