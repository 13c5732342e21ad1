"""Rates masks: those of a folder, or the annotations of a run's own data set.

    segdiff rate --workdir=RUN --images=DIR --masks=DIR --output=DIR
    segdiff check --workdir=RUN

The flags are in `cli.review_args`. jax is imported only once the command line is known to be
correct: that takes seconds.
"""

import math
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from segdiff_jax.cli import app, review_args
from segdiff_jax.cli.review_args import Command
from segdiff_jax.data.composite import composite
from segdiff_jax.data.image_io import writing
from segdiff_jax.errors import CANNOT_WRITE
from segdiff_jax.prediction import csv_files
from segdiff_jax.prediction.overlay import overlay
from segdiff_jax.review import calibrate, pairs
from segdiff_jax.runtime import files, own_files

TABLE = "ratings.csv"
PICTURES = 20  # of the worst masks
SUSPECT = 0.5  # suspicion from which on an annotation is called wrong


class Row(NamedTuple):
    """A line of ratings.csv; what is not calibrated is empty.

    Attributes:
      rank: 1 is the worst.
      name: of the image.
      suspicion: probability that the mask is wrong, if a tenth are.
      surprise: Dice between samples less the mask's mean Dice with them.
      predicted_dice, dice_low, dice_high: with the truth, and the 80 % interval.
      unlike: in what the picture is unlike those of the calibration.
    """

    rank: int
    name: str
    suspicion: float
    surprise: float
    predicted_dice: float
    dice_low: float
    dice_high: float
    unlike: str


def main(argv: list[str], mode: str) -> int:
    """Runs a command line and returns its exit code.

    Args:
      argv: arguments without the name of the program.
      mode: "rate", or "check": of the run's own annotations.
    """
    program = partial(run_command, mode=mode)
    return app.run(program, argv, review_args.HELPS[mode], calibrate.LESS_MEMORY)


def run_command(argv: list[str], mode: str) -> None:
    """Parses a command line and runs it."""
    command = review_args.parse(argv, mode)
    app.set_up_logging()
    from segdiff_jax import api
    from segdiff_jax.runtime import signals

    output = command.output or command.workdirs[0] / "check"
    own_files.check(output, (TABLE,), ("pictures",), CANNOT_WRITE)
    with signals.raise_on_signal():
        model = api.load(command.workdirs, **calibrate.settings(command))
        if model.calibration is None:
            logging.warning("masks are ranked, but not calibrated: %s", model.uncalibrated)
        rate(model, _examples(command, model), output)


def _examples(command: Command, model: Any) -> Iterable[Any]:
    """Returns the masks to rate with their images."""
    from segdiff_jax.factory import datasets

    if command.images is not None and command.masks is not None:
        found = pairs.pair(command.images, command.masks, command.mask_suffix)
        return pairs.read(found, **pairs.settings_of(model, command.values))
    return datasets.scored_examples(model.config, command.split or model.config.data.train_split)


def rate(model: Any, examples: Iterable[Any], output: Path) -> list[Row]:
    """Rates the masks of examples and writes ratings.csv and pictures of the worst.

    Args:
      model: an `api.Model`.
      examples: with a mask as large as the image.
      output: folder, made if missing.

    Returns:
      The rows, the worst first.

    Raises:
      UserError: a file cannot be read or written.
    """
    found, pictures = [], {}
    for number, example in enumerate(examples):
        seen = model.predict(example.image, number=number)
        rated = seen.rate(example.mask)
        unlike = ", ".join(rated.unlike)
        dice = rated.dice.dice, rated.dice.low, rated.dice.high
        row = Row(0, example.name, rated.suspicion, rated.surprise, *dice, unlike)
        found.append(row)
        pictures[example.name] = example.image, example.mask, seen.doubt(example.mask)
        for better in sorted(found, key=_worst)[PICTURES:]:
            pictures.pop(better.name, None)  # few are held at a time
    rows = [row._replace(rank=i) for i, row in enumerate(sorted(found, key=_worst), start=1)]
    lines = [Row._fields, *([_text(value) for value in row] for row in rows)]
    files.write_bytes(output / TABLE, csv_files.encode(lines))
    for row in rows[:PICTURES]:
        _draw(output / "pictures", row, *pictures[row.name])
    _log(rows, output)
    return rows


def _worst(row: Row) -> tuple[float, float, str]:
    suspicion = 0.0 if math.isnan(row.suspicion) else row.suspicion
    return -suspicion, -(0.0 if math.isnan(row.surprise) else row.surprise), row.name


def _text(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else round(value, 4)


def _draw(folder: Path, row: Row, image: np.ndarray, mask: np.ndarray, doubt: np.ndarray) -> None:
    """Writes the image with the outline of a mask, tinted where the samples disagree with it."""
    safe = re.sub(r"[^\w.-]+", "_", row.name)[:80]
    spread = np.rint(65535 * doubt).astype(np.uint16)
    picture = overlay(composite(image), mask * np.uint8(255), spread)
    writing.save(folder / f"{row.rank:03d}_{safe}.png", picture, writing.NO_TAGS)


def _log(rows: list[Row], output: Path) -> None:
    suspect = [row for row in rows if row.suspicion > SUSPECT]
    if suspect:
        logging.info("these %d annotations look wrong:", len(suspect))
    for row in (suspect or rows)[:PICTURES]:
        logging.info(
            "  %d. %s: suspicion %.2f, surprise %.3f, predicted Dice %.2f",
            *(row.rank, row.name, row.suspicion, row.surprise, row.predicted_dice),
        )
    logging.info("%s: %d masks, the worst first", output / TABLE, len(rows))
