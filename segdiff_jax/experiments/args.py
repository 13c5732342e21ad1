"""Parses the command line of a grid. Needs no jax."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from segdiff_jax.cli import options
from segdiff_jax.config import flatten, schema, validate
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.experiments.grids import (
    GRIDS,
    LOCATION_FIELDS,
    NO_EFFECT,
    PAPER_GRIDS,
    Cell,
    Values,
    plan,
)
from segdiff_jax.experiments.recipe import VARIANTS
from segdiff_jax.runtime.files import write_json

FLAGS = {"dir": "", "grid": "", "list": False, "retry": False}
DESCRIPTION = "grid.json"


class Command(NamedTuple):
    """What the user asked for.

    Attributes:
      config: of the grid, checked.
      directory: of the grid; need not exist.
      cells: to run, in their order.
      arguments: the command line without --list and --retry, which repeats the grid.
      only_list: whether to print the state of the cells only.
      retry: whether to run failed cells again.
    """

    config: ConfigDict
    directory: Path
    cells: list[Cell]
    arguments: list[str]
    only_list: bool
    retry: bool


def parse(argv: list[str]) -> Command:
    """Parses the arguments after the name of the program.

    Raises:
      UserError: anything that is misspelt, out of range, or not there; or the directory holds a
        grid of another config.
    """
    _, config, rest = options.read_config(argv)
    defaults = {
        name: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in Values()._asdict().items()
    }
    values = options.read_flags(FLAGS | defaults, rest, config)
    validate.check(config)
    if not values["dir"]:
        raise UserError("--dir is missing: must be the directory of the grid; it is made if need")
    directory = options.directory("dir", values["dir"])
    grids = tuple(values["grid"].split(",")) if values["grid"] else PAPER_GRIDS
    for grid in grids:
        if grid not in GRIDS:
            hint = schema.did_you_mean(grid, GRIDS)
            raise UserError(f"--grid={grid}: must be some of {', '.join(GRIDS)}{hint}")
    cells = plan(Values(*(_numbers(name, values[name]) for name in Values._fields)), grids)
    arguments = [part for part in argv if part.lstrip("-") not in ("list", "retry")]
    check_resume(directory, config)
    return Command(config, directory, cells, arguments, values["list"], values["retry"])


def _numbers(name: str, text: str) -> Any:
    """Returns the values of one of the flags of `Values`: numbers, one number, or variants."""
    if name == "variants":
        return _variants(text)
    least = 0 if name in ("images", "seeds", "twin_steps") else 1
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    single = name in ("generations", "twin_steps")
    if not numbers or min(numbers) < least or (single and len(numbers) > 1):
        count = "an integer," if single else "integers joined by commas, each"
        raise UserError(f"--{name}={text}: must be {count} at least {least}")
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--{name}={text}: names a value twice")
    return numbers[0] if single else tuple(numbers)


def _variants(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in VARIANTS:
            hint = schema.did_you_mean(name, VARIANTS)
            raise UserError(f"--variants={name}: must be some of {', '.join(VARIANTS)}{hint}")
    if len(set(names)) < len(names):
        raise UserError(f"--variants={text}: names a value twice")
    return names


def check_resume(directory: Path, config: ConfigDict) -> None:
    """Checks that a grid continues with the config it began with.

    Raises:
      UserError: they differ; both values are named.
    """
    try:
        saved = json.loads((directory / DESCRIPTION).read_text())["config"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{directory / DESCRIPTION}: cannot be read: {error}") from error
    given = json.loads(json.dumps(flatten(config)))
    differing = [
        f"{key} was {saved.get(key)}, now {given.get(key)}"
        for key in sorted(saved.keys() | given.keys())
        if saved.get(key) != given.get(key) and not key.startswith((*LOCATION_FIELDS, *NO_EFFECT))
    ]
    if differing:
        raise UserError(
            f"--dir={directory}: holds the grid of another config ({'; '.join(differing)}): choose "
            "another directory, or the settings it began with",
            BAD_CHECKPOINT,
        )


def describe(command: Command) -> None:
    """Writes the command line and config of a grid, for `report` and for later runs.

    Raises:
      UserError: the directory cannot be written.
    """
    content = {"command": command.arguments, "config": flatten(command.config)}
    write_json(command.directory / DESCRIPTION, content)
