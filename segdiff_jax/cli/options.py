"""Parses what all command lines share: flags, config files, overrides of a config, paths."""

import importlib.util
import inspect
import os
import pkgutil
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from segdiff_jax.config import schema, validate
from segdiff_jax.config.allowed import is_integer
from segdiff_jax.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
DRIVE = re.compile(r"[A-Za-z]:(?=[/\\])")  # of a path on Windows
DEVICES = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}  # flag -> JAX_PLATFORMS
WHOLE = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
MOST_DIGITS = 30  # of an integer that is written with an exponent


def whole_number(text: str) -> int:
    """Returns an integer, which may be written as 1e3 or 8.0; raises ValueError for other texts."""
    if not WHOLE.fullmatch(text) or len(text) > 1000:
        return int(text)
    value = Decimal(text)
    if value.adjusted() > MOST_DIGITS or value != value.to_integral_value():
        raise ValueError(f"{text} is no integer")
    return int(value)


def use_device(name: str) -> None:
    """Makes JAX, which must not be imported yet, use a kind of device; "": that it chooses.

    Raises:
      UserError: there is no such kind.
    """
    if not name:
        return
    if name not in DEVICES:
        hint = schema.did_you_mean(name, DEVICES)
        raise UserError(f"--device={name}: must be one of {', '.join(DEVICES)}{hint}")
    platforms = DEVICES[name]
    if name == "gpu" and any(one.name.startswith("jax_rocm") for one in pkgutil.iter_modules()):
        platforms = platforms.replace("cuda", "rocm")
    os.environ["JAX_PLATFORMS"] = platforms


def read_flags(
    defaults: Mapping[str, str | int | bool | None],
    argv: Sequence[str],
    config: ConfigDict | None = None,
) -> dict[str, Any]:
    """Returns the values of the flags, and applies --config.GROUP.KEY=VALUE to the config in place.

    Args:
      defaults: by name: a str, int or bool, which is also the type; None: of type str, not given.
      argv: arguments without the name of the program and without --config=FILE.
      config: to be changed; None: the program has none.

    Raises:
      UserError: an unknown flag, or a value of another type.
    """
    values, argv = flags.FlagValues(), ["segdiff", *argv]
    define = {int: flags.DEFINE_integer, bool: flags.DEFINE_bool}
    for name, default in defaults.items():
        define.get(type(default), flags.DEFINE_string)(name, default, "", flag_values=values)
    try:
        if config is not None:
            argv = _with_integers(argv)
            for match in filter(None, map(re.compile(r"--?(?:no)?config\.([^=]*)").match, argv)):
                if match[1] not in schema.FIELDS:
                    raise schema.unknown_field(match[1])
            config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        left = values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        raise _unknown_flag(error.flagname, defaults, config is not None) from error
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        if match := re.match(r"flag --config\.([^=]*)=(.*?): ", str(error), re.DOTALL):
            raise schema.invalid_value(match[1], match[2]) from error
        raise UserError(str(error)) from error
    if left:
        raise UserError(f"{left[0]}: flags are written --NAME=VALUE; see --help")
    return {name: values[name].value for name in defaults}


def _with_integers(argv: list[str]) -> list[str]:
    """Returns arguments in which integer fields of the config that are written as 1e3 are 1000."""
    integers = {key for key, one in schema.FIELDS.items() if is_integer(one.default)}
    field, result = "", []  # that the next argument is the value of
    for argument in argv:
        match = re.match(r"--?config\.([^=]*)(=?)", argument)
        end, key = (match.end(), match[1]) if match else (0, field)
        field = key if match and not match[2] else ""
        start, text = argument[:end], argument[end:]
        if key in integers:
            with suppress(ValueError):
                text = str(whole_number(text))
        result.append(f"{start}{text}")
    return result


def _unknown_flag(name: str, known: Iterable[str], has_config: bool) -> UserError:
    fields = schema.fields_named_like(name) if has_config else []
    meant = " or ".join(f"--config.{field}" for field in fields)
    near = schema.did_you_mean(name, (*known, "help", *["config"] * has_config))
    hint = near or (f"; did you mean {meant}?" if meant else "; see --help")
    return UserError(f"--{name}: no such flag{hint}")


def read_config(argv: Sequence[str]) -> tuple[str, ConfigDict, list[str]]:
    """Returns the value of --config, the config of that file, and the other arguments.

    Raises:
      UserError: --config is missing, given twice, or no usable file.
    """
    sources, rest = config_sources(argv)
    return only(sources), load_config(only(sources)), rest


def config_sources(argv: Iterable[str]) -> tuple[list[str], list[str]]:
    """Splits the arguments into the values of --config and the others."""
    sources, rest, arguments = [], [], iter(argv)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            sources.append(value if equals else next(arguments, ""))
        else:
            rest.append(argument)
    return sources, rest


def take(name: str, argv: Iterable[str]) -> tuple[list[str], list[str]]:
    """Splits the arguments into the values of a flag that may be repeated, and the others.

    After --NAME without "=" all arguments up to the next flag are its values, as a shell makes them
    of a pattern.
    """
    values, rest, follows = [], [], False
    for argument in argv:
        flag, equals, value = argument.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            follows = not equals
            values += [value] if equals else []
        elif follows and not argument.startswith("-"):
            values.append(argument)
        else:
            follows = False
            rest.append(argument)
    return values, rest


def only(sources: Sequence[str]) -> str:
    """Returns the one value of --config; raises UserError if there is none, or more than one."""
    if len(sources) != 1 or not sources[0]:
        known = ", ".join(f"configs/{path.name}" for path in shipped_configs())
        problem = "is given twice" if len(sources) > 1 else "is missing"
        raise UserError(f"--config {problem}: must be one file, {known or 'a config of yours'}")
    return sources[0]


def load_config(source: str) -> ConfigDict:
    """Returns what get_config of "FILE", "FILE:ARGUMENT" or "NAME:ARGUMENT" returns.

    Raises:
      UserError: there is no such local file, it cannot be run, or it refuses the argument.
    """
    if "://" in source:
        raise UserError(f"--config={source}: must be a local file, since it is Python and is run")
    name, argument = split_source(source)
    path = shipped_config(name) or Path(name)
    if not path.is_file() or path.suffix != ".py":
        near = {path.as_posix() for path in path.parent.glob("*.py")}
        bare = "/" not in name and not name.endswith(".py")
        near |= {one.stem if bare else f"configs/{one.name}" for one in shipped_configs()}
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
    except Exception as error:  # the file is the user's and may raise anything
        raise UserError(f"--config={source}: {_where(error, path)}{error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={source}: get_config must return a ConfigDict, not {config!r}")
    return config


def split_source(source: str) -> tuple[str, str]:
    """Returns the file and the argument of "FILE:ARGUMENT"; a file may begin with a drive."""
    drive = DRIVE.match(source)
    start = drive.end() if drive else 0
    name, _, argument = source[start:].partition(":")
    return source[:start] + name, argument


def shipped_configs() -> list[Path]:
    """Returns the configs of the package: in a wheel they are part of it, in a clone beside it."""
    inside, beside = PACKAGE / "configs", PACKAGE.parent / "configs"
    return sorted((inside if inside.is_dir() else beside).glob("*.py"))


def shipped_config(name: str) -> Path | None:
    """Returns the file of a config of the package; None: the name is that of a user's file.

    "monuseg" names one from anywhere; so does "configs/monuseg.py" where there is no such file.
    """
    path = Path(name)
    bare = not path.suffix and path.name == name
    if not bare and (path.parent != Path("configs") or path.exists()):
        return None
    stem = path.stem if path.suffix in ("", ".py") else name
    return next((found for found in shipped_configs() if found.stem == stem), None)


def _where(error: Exception, path: Path) -> str:
    """Returns "line 12: KeyError: ", where 12 is the last line of the file that was run."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}: "


def check_config(config: ConfigDict) -> None:
    """Raises UserError if a field, or a relation between fields, or data.dir is wrong."""
    validate.check(config)
    for key in ("dir", "prepared_dir"):
        if text := config.data[key]:
            path = _usable(f"config.data.{key}", text)
            if key == "dir" and not path.is_dir():
                raise UserError(f"config.data.dir={text!r}: must be a directory that exists")


def _usable(name: str, text: str) -> Path:
    """Returns the path of a text; raises UserError for one that no file system takes."""
    shown = text if len(text) < 200 else f"{text[:100]}..."
    try:
        path = Path(text).expanduser()
        path.exists()
        return path
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a zero byte
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{name}={shown!r}: is no usable path: {why}") from error


def local_path(name: str, text: str) -> Path:
    """Returns the path that a flag names; raises UserError for a URL, such as that of a bucket."""
    if "://" in text:
        demand = "must be a place in a file system of this machine: mount buckets"
        raise UserError(f"--{name}={text}: {demand}, see docs/tpu.md")
    return _usable(f"--{name}", text)


def directory(name: str, text: str) -> Path:
    """Returns the directory that a flag names, which need not exist.

    Raises:
      UserError: it is a URL, or it or one of its parents is a file.
    """
    path = local_path(name, text)
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"--{name}={path}: must be a directory; {place} is a file")
    return path
