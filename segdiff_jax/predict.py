"""SegDiff: predicts the masks of new images with a trained run.

  python -m segdiff_jax.predict --workdir=RUN --input=FILE_OR_FOLDER --output=DIR

  --workdir=RUN              the directory of the run: config.json and checkpoints
  --input=FILE_OR_FOLDER     PNG, JPEG or TIFF, any size; --recursive: sub-folders too
  --output=DIR               gets probability/ (16 bit: 65535 is 1), mask/ (0, 255), uncertainty/
                             (16 bit: 65535 is a standard deviation of 0.5: between generations,
                             or sqrt(p(1-p)) of a network in one pass), overlay/, summary.csv;
                             TIFF for TIFF with its GeoTIFF tags, else PNG. The same command again
                             skips what is done; --overwrite does it anew
  --save_generations         each mask that was averaged, too: generations/NAME_1.png, ...
  --generations=N --steps=N  masks averaged, and reverse steps of each (0: all);
  --overlap=PIXELS           that neighbouring tiles share;
  --seed=N                   of the noise; without these flags the settings of the run count
  --threshold=P              foreground is where the mean probability is above it; 0.5
  --max_pixels=N             larger images are refused (64000000)
  --page=N                   of TIFF files with several pages, from 0
  --float_range=LOW,HIGH     values of float images that stand for black and white
  --help                     this text

Exit codes: 0 done; 64 bad command line; 65 some images could not be read, the others are done;
66 bad checkpoint; 70 not a finite number, or a bug; 74 cannot write; 130 interrupted, what is
finished is whole and the same command goes on.
"""

import sys
from typing import Any

from absl import logging

from segdiff_jax.cli import app
from segdiff_jax.cli.predict_args import Command, parse
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.prediction.pipeline import FolderPrediction, log_looks
from segdiff_jax.prediction.summary import Summary, check_settings
from segdiff_jax.runtime import lock, startup

LESS_MEMORY = "lower sampling.rows_at_once in the config.json of the run, or --generations"


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code; mistakes of the user's take one line.

    Args:
      arguments: the words after the name of the programme.
    """
    return app.run(_main, arguments, __doc__, LESS_MEMORY)


def _main(arguments: list[str]) -> None:
    command = parse(arguments)
    app.set_up_logging()
    from segdiff_jax import api
    from segdiff_jax.runtime import signals  # jax takes seconds to import

    names = "generations", "steps", "overlap", "threshold", "seed"
    chosen = {name: command.numbers[name] for name in names if name in command.numbers}
    with lock.locked(command.output), signals.raise_on_signal():  # before minutes of compilation
        predict(command, api.load(command.workdir, **chosen))


def predict(command: Command, model: Any) -> None:
    """Predicts what is not done yet.

    Args:
      command: what was asked for.
      model: a `library.Model` with the settings of the command.

    Raises:
      UserError: the output was made with other settings, or cannot be written, or some images
        could not be read; those are its details, and the others are done.
    """
    output, count = command.output, model.config.sampling.generations
    if count == 1 and model.random:
        logging.warning("one generation: nothing to compare, so uncertainty is 0 everywhere")
    limits = _limits(command, model)
    same = check_settings(output, settings(command, model, limits), command.overwrite)
    with Summary(output, fresh=command.overwrite and not same) as summary:
        keep = count if command.save_generations else 0
        work = FolderPrediction(model, output, limits, model.threshold, keep, summary, model.random)
        left = [one for one in command.inputs if command.overwrite or not work.is_done(one)]
        total, skipped = len(command.inputs), len(command.inputs) - len(left)
        if skipped:
            logging.info("%d of %d images were done before", skipped, total)
        work.run(left)
    log_looks(summary.path, summary.rows.values())
    if bad := len(work.problems):
        message = f"{total - bad} of {total} images done; {bad} could not be read"
        raise UserError(message, BAD_DATA, work.problems)


def _limits(command: Command, model: Any) -> Limits:
    """What the run's config says of reading, but for what the command says."""
    chosen = {name: model.config.reading[name] for name in Limits._fields}
    return Limits(**(chosen | {k: v for k, v in command.numbers.items() if k in chosen}))


def settings(command: Command, model: Any, limits: Limits) -> dict[str, Any]:
    """Returns all that the files of an image depend on besides the image."""
    c, T = model.config.sampling, model.config.diffusion.T
    drawn = {
        "generations": c.generations,
        "steps": c.steps or T,
        "sampler": c.sampler,
        "variance": c.variance,
        "eta": c.eta,
    }
    return {
        "workdir": str(command.workdir.resolve()),
        "update": int(model.step),
        "input": str(command.folder.resolve()),
        **(drawn if model.random else {"kind": model.config.model.kind}),
        "threshold": model.threshold,
        "tile": c.tile,
        "overlap": c.tile - c.stride,
        "seed": model.config.seed,
        "page": limits.page,
        "float_range": list(limits.float_range),
    }


def run() -> None:
    """The console script."""
    startup.reexec_with_huge_pages()
    app.exit_program(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
