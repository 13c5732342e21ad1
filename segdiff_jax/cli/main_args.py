"""From the words of a command line to a checked config; needs no jax, so mistakes show at once."""

import importlib.util
import inspect
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from segdiff_jax.cli import options
from segdiff_jax.config import schema, validate
from segdiff_jax.errors import UserError

MODES = ("all", "check", "prepare", "train", "evaluate")


FLAGS = {"workdir": "", "mode": MODES[0], "coordinator": "", "processes": 0, "process": -1}


class Command(NamedTuple):
    """What the user asked for.

    Attributes:
      config: checked, and locked against new keys.
      workdir: of the run; need not exist.
      mode: one of MODES.
      coordinator: "host:port" of process 0, "auto", or "" where there is one process.
      processes: how many there are, with "host:port".
      process: the number of this one, from 0.
    """

    config: ConfigDict
    workdir: Path
    mode: str
    coordinator: str
    processes: int
    process: int


def parse(arguments: list[str]) -> Command:
    """Reads a command line.

    Args:
      arguments: the words after the name of the programme.

    Raises:
      UserError: anything that is misspelt, out of range, or not there.
    """
    source, rest = take_config(arguments)
    config = load_config(source)
    values = read_flags(config, rest, FLAGS)
    validate.check(config)
    if values.mode not in MODES:
        hint = schema.did_you_mean(values.mode, MODES)
        raise UserError(f"--mode={values.mode}: must be one of {', '.join(MODES)}{hint}")
    workdir = options.local_path("workdir", values.workdir or f"runs/{_run_name(source)}")
    for place in (workdir, *workdir.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"--workdir={workdir}: must be a directory; {place} is a file")
    data_dir = config.data.dir
    if data_dir and not Path(data_dir).expanduser().is_dir():
        raise UserError(f"config.data.dir={data_dir!r}: must be a directory that exists")
    _check_job(values)
    return Command(
        config, workdir, values.mode, values.coordinator, values.processes, values.process
    )


def take_config(arguments: list[str]) -> tuple[str, list[str]]:
    """Splits off the value of --config, which says what the other flags may be."""
    sources, rest, words = [], [], iter(arguments)
    for word in words:
        if re.fullmatch(r"--?config", word):
            sources.append(next(words, ""))
        elif re.match(r"--?config=", word):
            sources.append(word.split("=", 1)[1])
        else:
            rest.append(word)
    if len(sources) != 1 or not sources[0]:
        known = ", ".join(map(str, sorted(Path().glob("configs/*.py"))))
        told = "is given twice" if len(sources) > 1 else "is missing"
        raise UserError(f"--config {told}: must be one file, {known or 'a config of yours'}")
    return sources[0], rest


def load_config(source: str) -> ConfigDict:
    """Returns what get_config of "FILE" or "FILE:ARGUMENT" returns.

    Raises:
      UserError: there is no such local file, it cannot be run, or it refuses the argument.
    """
    if "://" in source:
        raise UserError(f"--config={source}: must be a local file, since it is Python and is run")
    name, _, argument = source.partition(":")
    path = Path(name)
    if not path.is_file() or path.suffix != ".py":
        near = {str(p) for place in (path.parent, Path("configs")) for p in place.glob("*.py")}
        hint = schema.did_you_mean(name, near) or f"; there are {', '.join(sorted(near))}"
        raise UserError(f"--config={source}: no such Python file{hint if near else ''}")
    try:
        spec = importlib.util.spec_from_file_location("config_file", path.resolve())
        assert spec and spec.loader  # it ends in .py
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if argument and not inspect.signature(module.get_config).parameters:
            raise UserError(f"--config={source}: {name} takes no argument after a colon")
        config = module.get_config(argument) if argument else module.get_config()
    except UserError:
        raise
    except Exception as error:  # the file is the user's: anything may happen in it
        raise UserError(f"--config={source}: {_where(error, path)}{error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={source}: get_config must return a ConfigDict, not {config!r}")
    return config


def _where(error: Exception, path: Path) -> str:
    """Returns "line 12: KeyError: ", where 12 is the last line of the file that was run."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}: "


def read_flags(
    config: ConfigDict, words: list[str], others: Mapping[str, str | int | bool]
) -> flags.FlagValues:
    """Applies the overrides to the config in place and returns the other flags.

    Args:
      config: changed.
      words: of the command line, without --config=FILE.
      others: what else there may be, by name, with what counts if it is not given.

    Raises:
      UserError: anything that is misspelt or of another type.
    """
    for word in words:
        if match := re.match(r"--?(?:no)?config\.([^=]*)", word):
            if match[1] not in schema.FIELDS:
                raise schema.unknown_field(match[1])
    values, argv = flags.FlagValues(), ["segdiff", *words]
    define = {str: flags.DEFINE_string, int: flags.DEFINE_integer, bool: flags.DEFINE_bool}
    for name, default in others.items():
        define[type(default)](name, default, "", flag_values=values)
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        left = values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        knobs = " or ".join(f"--config.{k}" for k in schema.names(error.flagname))
        near = f"; did you mean {knobs}?" if knobs else "; see --help"
        near = schema.did_you_mean(error.flagname, ("config", *others, "help")) or near
        raise UserError(f"--{error.flagname}: no such flag{near}") from error
    except flags.IllegalFlagValueError as error:
        if match := re.match(r"flag --config\.([^=]*)=(.*?): ", str(error), re.DOTALL):
            raise schema.invalid_value(match[1], match[2]) from error
        raise UserError(str(error)) from error
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(str(error)) from error
    if left:
        raise UserError(f"{left[0]}: flags are written --NAME=VALUE; see --help")
    return values


def _run_name(source: str) -> str:
    """Returns "monuseg-small" for "configs/monuseg.py:small"."""
    name, _, argument = source.partition(":")
    return "-".join([Path(name).stem, *re.findall(r"[\w.]+", argument)])


def _check_job(values: flags.FlagValues) -> None:
    if values.coordinator in ("", "auto"):
        if values.processes or values.process >= 0:
            raise UserError("--processes and --process need --coordinator=HOST:PORT")
    elif not re.fullmatch(r".+:\d+", values.coordinator):
        raise UserError(f"--coordinator={values.coordinator}: must be HOST:PORT or auto")
    elif not 0 <= values.process < values.processes:
        raise UserError(
            f"--process={values.process}: must be at least 0 and less than "
            f"--processes={values.processes}"
        )
