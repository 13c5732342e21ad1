"""From the words of an import's or export's command line to what is to be done; needs no jax."""

import re
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict

from segdiff_jax.cli import main_args, options
from segdiff_jax.config import schema
from segdiff_jax.errors import BAD_CHECKPOINT, UserError

NAMES = ("weights", "export", "workdir", "step")


# what the authors' code calls its checkpoints: ..._060000.pt and model060000.pt
UPDATES = re.compile(r"(?:.*_|model)(\d{6,9})")


class Import(NamedTuple):
    """A run is to be made of the authors' weights.

    Attributes:
      weights: their file; exists.
      config: checked, of the run.
      workdir: of the run; holds none yet.
      step: updates the weights have seen.
    """

    weights: Path
    config: ConfigDict
    workdir: Path
    step: int


class Export(NamedTuple):
    """The averaged weights of the run in `workdir` are to be written to a file, not there yet."""

    file: Path
    workdir: Path


def parse(arguments: list[str]) -> Import | Export:
    """Reads a command line.

    Args:
      arguments: the words after the name of the programme.

    Raises:
      UserError: anything that is misspelt, missing, or in the way.
    """
    config_words, words = _split(arguments)
    values = _read_flags(words)
    if bool(values.weights) == bool(values.export):
        raise UserError("--weights=FILE.pt (to import) or --export=FILE.pt: one of the two; --help")
    if not values.workdir:
        raise UserError("--workdir is missing: must be the directory of the run")
    workdir = options.local_path("workdir", values.workdir)
    if values.export:
        if config_words or values.step:
            raise UserError("--export takes no --config and no --step: the run has its own")
        return _export(options.local_path("export", values.export), workdir)
    config = main_args.parse([*config_words, f"--workdir={workdir}"]).config
    return _import(options.local_path("weights", values.weights), config, workdir, values.step)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Returns the words that are about the config, and the others."""
    config_words, rest, words = [], [], iter(arguments)
    for word in words:
        if re.match(r"--?(no)?config([.=]|$)", word):
            config_words.append(word)
            if re.fullmatch(r"--?config", word):
                config_words.append(next(words, ""))
        else:
            rest.append(word)
    return config_words, rest


def _read_flags(words: list[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    for name in NAMES:
        flags.DEFINE_string(name, "", "", flag_values=values)
    try:
        left = values(["segdiff-import", *words])[1:]
    except flags.UnrecognizedFlagError as error:
        near = schema.did_you_mean(error.flagname, (*NAMES, "config", "help")) or "; see --help"
        raise UserError(f"--{error.flagname}: no such flag{near}") from error
    except flags.Error as error:
        raise UserError(str(error)) from error
    if left:
        raise UserError(f"{left[0]}: flags are written --NAME=VALUE; see --help")
    return values


def _import(weights: Path, config: ConfigDict, workdir: Path, step: str) -> Import:
    if not weights.is_file():
        raise UserError(f"--weights={weights}: no such file")
    for name in ("config.json", "checkpoints"):
        if (workdir / name).exists():
            raise UserError(f"--workdir={workdir}: holds a run already; choose another")
    if not config.data.mean:
        raise UserError(
            "config.data.mean=(): must be given, with data.std: the numbers of the training whose "
            "weights these are"
        )
    if config.train.result != "last":
        raise UserError("config.train.result='best': must be last: nothing has been validated here")
    if step:
        if not re.fullmatch(r"\d{1,9}", step):
            raise UserError(f"--step={step}: must be an integer, at least 0, below 1000000000")
        return Import(weights, config, workdir, int(step))
    match = UPDATES.fullmatch(weights.stem)
    return Import(weights, config, workdir, int(match[1]) if match else 0)


def _export(file: Path, workdir: Path) -> Export:
    if not (workdir / "config.json").is_file():
        raise UserError(f"--workdir={workdir}: holds no run: no config.json", BAD_CHECKPOINT)
    if file.exists():
        raise UserError(f"--export={file}: exists already; choose another")
    if not file.parent.is_dir():
        raise UserError(f"--export={file}: must be in a directory that exists")
    return Export(file, workdir)
