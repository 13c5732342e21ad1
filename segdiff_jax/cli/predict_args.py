"""From the words of a prediction's command line to what is to be done; needs no jax."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from segdiff_jax.cli import options
from segdiff_jax.config import schema
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.prediction.inputs import GENERATIONS, MAPS, Input, find
from segdiff_jax.prediction.summary import unrelated_content

PLACES = ("workdir", "input", "output")


SWITCHES = ("save_generations", "recursive", "overwrite")


class Number(NamedTuple):
    """What a flag may be: its type, a test, and the end of the sentence "... must be"."""

    kind: Callable[[str], Any]
    accepts: Callable[[Any], bool]
    allowed: str


def _range(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.strip("()").split(","))


NUMBERS = {
    "generations": Number(int, lambda v: v >= 1, "an integer, at least 1"),
    "steps": Number(int, lambda v: v >= 0, "an integer, at least 1, or 0 for all"),
    "overlap": Number(int, lambda v: v >= 0, "an integer, at least 0, in pixels"),
    "seed": Number(int, lambda v: 0 <= v < 2**32, "an integer, at least 0, at most 4294967295"),
    "threshold": Number(float, lambda v: 0 <= v < 1, "a number, at least 0, below 1"),
    "max_pixels": Number(int, lambda v: v >= 1, "an integer, at least 1"),
    "page": Number(int, lambda v: v >= 0, "an integer, at least 0"),
    "float_range": Number(
        _range,
        lambda v: len(v) == 2 and all(map(math.isfinite, v)) and v[0] < v[1],
        "LOW,HIGH: two numbers, the lower first",
    ),
}


class Command(NamedTuple):
    """What the user asked for.

    Attributes:
      workdir: of the run; holds config.json.
      folder: of the input; names in the summary start there.
      inputs: the images, at least one.
      output: need not exist.
      numbers: by name, those of `NUMBERS` that were given; for the others the run's settings count.
      save_generations, overwrite: the switches.
    """

    workdir: Path
    folder: Path
    inputs: list[Input]
    output: Path
    numbers: Mapping[str, Any]
    save_generations: bool
    overwrite: bool


def parse(arguments: list[str]) -> Command:
    """Reads a command line.

    Args:
      arguments: the words after the name of the programme.

    Raises:
      UserError: anything that is misspelt, out of range, or not there.
    """
    values = _read_flags(arguments)
    given = {
        name: _number(name, str(values[name].value)) for name in NUMBERS if values[name].present
    }
    workdir, path, output = (_place(name, str(values[name].value)) for name in PLACES)
    _check_run(workdir, given)
    folder, inputs = find(path, bool(values.recursive))
    _check_output(output, folder, inputs, values)
    return Command(
        workdir=workdir,
        folder=folder,
        inputs=inputs,
        output=output,
        numbers=given,
        save_generations=bool(values.save_generations),
        overwrite=bool(values.overwrite),
    )


def _read_flags(words: list[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    for name in (*PLACES, *NUMBERS):
        flags.DEFINE_string(name, "", "", flag_values=values)
    for name in SWITCHES:
        flags.DEFINE_bool(name, False, "", flag_values=values)
    try:
        left = values(["segdiff-predict", *words])[1:]
    except flags.UnrecognizedFlagError as error:
        names = (*PLACES, *NUMBERS, *SWITCHES, "help")
        near = schema.did_you_mean(error.flagname, names) or "; see --help"
        raise UserError(f"--{error.flagname}: no such flag{near}") from error
    except flags.Error as error:
        raise UserError(str(error)) from error
    if left:
        raise UserError(f"{left[0]}: flags are written --NAME=VALUE; see --help")
    return values


def _number(name: str, text: str) -> Any:
    rule = NUMBERS[name]
    try:
        value = rule.kind(text)
    except ValueError:
        value = None
    if value is None or not rule.accepts(value):
        raise UserError(f"--{name}={text}: must be {rule.allowed}")
    return value


def _place(name: str, text: str) -> Path:
    if not text:
        raise UserError(f"--{name} is missing: --workdir, --input and --output are needed")
    return options.local_path(name, text)


def _check_run(workdir: Path, given: dict[str, Any]) -> None:
    """Holds the numbers to the config of the run, as far as JSON alone tells."""
    if not workdir.is_dir():
        raise UserError(f"--workdir={workdir}: must be the directory of a run")
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"--workdir={workdir}: holds no run: no config.json", BAD_CHECKPOINT)
    try:
        saved = json.loads(path.read_text())
        T = saved["diffusion"]["T"]
        tile = saved["sampling"]["tile"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the config of a run: {error}", BAD_CHECKPOINT) from error
    if given.get("steps", 0) > T:
        raise UserError(f"--steps={given['steps']}: must be at most {T}, the steps of the run")
    if tile and given.get("overlap", 0) >= tile:
        overlap = given["overlap"]
        raise UserError(f"--overlap={overlap}: must be less than a tile, {tile} pixels")


def _check_output(
    output: Path, folder: Path, inputs: list[Input], values: flags.FlagValues
) -> None:
    for place in (output, *output.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"--output={output}: must be a directory; {place} is a file")
    inside = output.resolve().is_relative_to(folder.resolve())
    if values.recursive and inside:
        raise UserError(
            f"--output={output}: lies in {folder}, where --recursive would find it again: choose a "
            "place beside it"
        )
    written = {path for input in inputs for path in input.maps(output.resolve()).values()}
    if taken := [i.path for i in inputs if folder.resolve() / i.name in written]:
        raise UserError(f"--output={output}: {taken[0]} of the input would be overwritten")
    if not values.overwrite and (name := unrelated_content(output, (*MAPS, GENERATIONS))):
        raise UserError(
            f"--output={output}: holds {name}, which no prediction made: choose another, or "
            "--overwrite"
        )
