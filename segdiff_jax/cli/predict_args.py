"""Parses the command line of `predict`."""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from segdiff_jax.cli import options
from segdiff_jax.config.allowed import Allowed, integer, number
from segdiff_jax.config.schema import MAX_SEED
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.prediction.inputs import GENERATIONS, MAPS, Input, find_images
from segdiff_jax.prediction.summary import unrelated_content

HELP = """SegDiff: predicts the masks of new images with a trained run.

  segdiff predict --workdir=RUN --input=FILE_OR_FOLDER --output=DIR
  segdiff predict --workdir=RUN --input=slides --recursive --output=masks --generations=4

  --workdir=RUN              directory of the run: config.json and checkpoints
  --input=FILE_OR_FOLDER     PNG, JPEG or TIFF, any size; --recursive: sub-folders, too
  --output=DIR               is filled with probability/ (16 bit: 65535 is 1), mask/ (0, 255),
                             uncertainty/ (16 bit: 65535 is a standard deviation of 0.5 between
                             generations, or sqrt(p(1-p)) of a network that predicts in one pass),
                             overlay/ and summary.csv; as TIFF for TIFF, with its GeoTIFF tags,
                             else as PNG. The same command again skips finished images
  --overwrite                predicts finished images again
  --save_generations         also writes each mask that is averaged: generations/NAME_1.png, ...
  --generations=N --steps=N  number of masks that are averaged; reverse steps of each (0: all)
  --overlap=PIXELS           width of the overlap of neighbouring tiles
  --seed=N                   of the noise. These four are as in the run if not given
  --threshold=P              foreground is where the mean probability is above it; 0.5
  --max_pixels=N             larger images are refused (64000000)
  --page=N                   of TIFF files with several pages, from 0
  --float_range=LOW,HIGH     values of float images that are black and white
  --help                     prints this text

Exit codes: 0 done; 64 bad command line; 65 some images could not be read, the others are done;
66 bad checkpoint; 70 a number is not finite, or an internal error; 74 cannot write; 130
interrupted: finished images are complete, and the same command continues."""


def _floats(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.strip("()").split(",")))


def _is_range(v: tuple[float, ...]) -> bool:
    return len(v) == 2 and -math.inf < v[0] < v[1] < math.inf


PATHS = ("workdir", "input", "output")
SWITCHES = ("save_generations", "recursive", "overwrite")
# a number of the command line: how to parse it, and what it may be
NUMBERS: dict[str, tuple[Callable[[str], Any], Allowed]] = {
    "generations": (int, integer(1)),
    "steps": (int, integer(0)._replace(text="an integer, at least 1, or 0 for all")),
    "overlap": (int, integer(0)._replace(text="an integer, at least 0, in pixels")),
    "seed": (int, integer(0, MAX_SEED)),
    "threshold": (float, number(0, 1, below=True)),
    "max_pixels": (int, integer(1)),
    "page": (int, integer(0)),
    "float_range": (_floats, Allowed("LOW,HIGH: two numbers, the lower first", _is_range)),
}
FLAGS = dict.fromkeys(PATHS, "") | dict.fromkeys(SWITCHES, False) | dict.fromkeys(NUMBERS)


class Command(NamedTuple):
    """Holds a parsed command line."""

    workdir: Path  # of the run; holds config.json
    folder: Path  # of the input; names in the summary are relative to it
    inputs: list[Input]  # the images, at least one
    output: Path  # need not exist
    numbers: Mapping[str, Any]  # those of `NUMBERS` that were given, by name
    save_generations: bool
    overwrite: bool


def parse(argv: list[str]) -> Command:
    """Parses a command line, without the name of the program.

    Raises:
      UserError: a flag is unknown, a value missing or not allowed, or a file in the way.
    """
    values = options.read_flags(FLAGS, argv)
    numbers = {name: _number(name, values[name]) for name in NUMBERS if values[name] is not None}
    if missing := [f"--{name}" for name in PATHS if not values[name]]:
        raise UserError(f"{missing[0]} is missing: --workdir, --input and --output are needed")
    workdir = options.local_path("workdir", values["workdir"])
    _check_run(workdir, numbers)
    folder, inputs = find_images(options.local_path("input", values["input"]), values["recursive"])
    output = options.directory("output", values["output"])
    _check_output(output, folder, inputs, values)
    switches = values["save_generations"], values["overwrite"]
    return Command(workdir, folder, inputs, output, numbers, *switches)


def _number(name: str, text: str) -> Any:
    read, allowed = NUMBERS[name]
    with suppress(ValueError):
        if allowed.accepts(value := read(text)):
            return value
    raise UserError(f"--{name}={text}: must be {allowed.text}")


def _check_run(workdir: Path, numbers: Mapping[str, Any]) -> None:
    """Checks the numbers against config.json of the run, which is read as plain JSON here."""
    path = workdir / "config.json"
    if not workdir.is_dir():
        raise UserError(f"--workdir={workdir}: must be the directory of a run")
    if not path.is_file():
        raise UserError(f"--workdir={workdir}: holds no run: no config.json", BAD_CHECKPOINT)
    try:
        saved = json.loads(path.read_text())
        T, tile = saved["diffusion"]["T"], saved["sampling"]["tile"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the config of a run: {error}", BAD_CHECKPOINT) from error
    steps, overlap = numbers.get("steps", 0), numbers.get("overlap", 0)
    if steps > T:
        raise UserError(f"--steps={steps}: must be at most {T}, the steps of the run")
    if tile and overlap >= tile:
        raise UserError(f"--overlap={overlap}: must be less than a tile, {tile} pixels")


def _check_output(output: Path, folder: Path, inputs: list[Input], values: dict[str, Any]) -> None:
    """Checks that no image of the input, nor any unrelated file, is overwritten or read again."""
    if values["recursive"] and output.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"--output={output}: lies in {folder}, where --recursive would find it")
    written = {path for input in inputs for path in input.maps(output.resolve()).values()}
    if taken := [i.path for i in inputs if folder.resolve() / i.name in written]:
        raise UserError(f"--output={output}: {taken[0]} of the input would be overwritten")
    if not values["overwrite"] and (name := unrelated_content(output, (*MAPS, GENERATIONS))):
        raise UserError(f"--output={output}: holds {name}, which no prediction made: --overwrite?")
