"""Parses the command line of `segdiff export` and of `segdiff models`."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from segdiff_jax.checkpoint import places
from segdiff_jax.cli import options
from segdiff_jax.cli.import_args import Export, parse_export
from segdiff_jax.cli.predict_args import read_models, read_workdirs
from segdiff_jax.config.allowed import SIDE
from segdiff_jax.config.schema import did_you_mean
from segdiff_jax.errors import UserError

DTYPES = ("float32", "float16")
AUTHORS, PROGRAM = ".pt", ".stablehlo"  # suffixes of the output
NO_FOLDERS = (".safetensors", ".onnx", ".pth", ".zip", ".tar", ".npz", ".ckpt", ".bin", ".mlir")
FACTS = ("title", "data", "data_license", "license", "command", "time", "limits")
MAX_ABOUT_BYTES = 2**16
OF_FOLDERS = ("dtype", "about", "kinds", "seeds", "split_names", "overwrite")
HELP = """Writes a trained network for others: a folder, the authors' file, or a program.

  segdiff export --workdir=RUN --output=DIR --dtype=float16
  segdiff export --workdir=RUN --output=FILE.pt
  segdiff export --workdir=RUN --output=FILE.stablehlo --size=256

  --workdir=RUN              directory of the run; or
  --model=MODEL              as of segdiff predict
  --output=DIR               what segdiff predict --model=DIR reads: model.safetensors with the
                             averaged weights, config.json, README.md, and calibration.json if there
                             is one; as it is a repository of Hugging Face. With it:
  --dtype=float16            of the numbers in the file; float32 if not given: predictions as before
  --about=FILE.toml          texts of README.md, any of title, data, data_license, license, command,
                             time, limits
  --kinds=FILE.csv           lines NAME,KIND of test pictures: README.md has the scores of each kind
  --seeds=RUN,RUN            runs that differ by their seed: it has the spread of their scores
  --split_names              also split.json, the names of the pictures of each split
  --overwrite                in place of an earlier export
  --output=FILE.pt           for the authors' PyTorch code, whose scripts expect the updates at the
                             end of its name, ema_0.9999_060000.pt; the same as
  --export=FILE.pt
  --output=FILE.stablehlo    a program of jax.export, which runs without this package: picture and
                             key in, probability and uncertainty out. With it:
  --size=N                   side of the picture in pixels; a tile of the run if not given
  --platforms=NAMES          that it runs on: cpu, cuda, rocm, tpu, joined by commas; cpu
  --help                     prints this text

Exit codes: 0 done; 64 bad command line; 66 the run has no checkpoint, or a network that the
authors' code does not have; 70 an internal error; 74 cannot write."""
MODELS_HELP = """Lists the networks that are part of the package, or prints the card of one.

  segdiff models
  segdiff models --card=NAME

  --card=NAME                what a network is, of which data, and how good
  --help                     prints this text

Exit codes: 0 done; 64 bad command line."""
MODELS_FLAGS = {"card": ""}
FLAGS = {
    **dict.fromkeys(("model", "workdir", "output", "export"), ""),
    **dict.fromkeys(("dtype", "about", "kinds", "seeds", "size", "platforms"), ""),
    **dict.fromkeys(("split_names", "overwrite"), False),
}
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


class Folder(NamedTuple):
    """Holds a parsed command line that writes a folder."""

    workdir: Path  # of the run, or an exported model
    output: Path  # does not exist, is empty, or an earlier export
    dtype: str
    about: Mapping[str, str]  # texts by name, of FACTS
    kinds: Path | None
    seeds: list[Path]  # runs
    split_names: bool


class Program(NamedTuple):
    """Holds a parsed command line that writes a program."""

    workdir: Path
    output: Path  # does not exist
    size: int  # pixels; 0: a tile of the run
    platforms: tuple[str, ...]


def parse(argv: list[str]) -> Export | Folder | Program:
    """Parses a command line, without the name of the program; the suffix of the output decides.

    Raises:
      UserError: a flag is unknown, a value missing or not allowed, or a file in the way.
    """
    flags = options.read_flags(FLAGS, argv)
    if flags["export"] and flags["output"]:
        raise UserError(f"--export={flags['export']}: not with --output, which means the same")
    if not (text := flags["export"] or flags["output"]):
        raise UserError("--output is missing: must be a folder, FILE.pt or FILE.stablehlo")
    suffix, output = Path(text).suffix.lower(), options.local_path("output", text)
    if flags["export"] or suffix == AUTHORS:
        _refuse(flags, (*OF_FOLDERS, "size", "platforms"), "FILE.pt")
        (workdir,) = _one(flags)
        return parse_export(output, workdir, "export" if flags["export"] else "output")
    (workdir,) = _one(flags)
    if suffix == PROGRAM:
        _refuse(flags, OF_FOLDERS, "FILE.stablehlo")
        if output.exists():
            raise UserError(f"--output={output}: exists already; choose another")
        return Program(workdir, output, _size(flags["size"]), _platforms(flags["platforms"]))
    if suffix in NO_FOLDERS:
        raise UserError(f"--output={text}: must be a folder, FILE.pt or FILE.stablehlo")
    _refuse(flags, ("size", "platforms"), "a folder")
    return _folder(flags, workdir, options.directory("output", text))


def _one(flags: Mapping[str, str]) -> list[Path]:
    found = read_models(flags["model"], flags["workdir"])
    if len(found) != 1:
        given = flags["model"] or flags["workdir"]
        raise UserError(f"--{'model' if flags['model'] else 'workdir'}={given}: must name one")
    return found


def _refuse(flags: Mapping[str, str], names: tuple[str, ...], what: str) -> None:
    for name in names:
        if flags[name]:
            raise UserError(f"--{name}: not with --output={what}")


def _folder(flags: Mapping[str, str], workdir: Path, output: Path) -> Folder:
    dtype = flags["dtype"] or DTYPES[0]
    if dtype not in DTYPES:
        hint = did_you_mean(dtype, DTYPES)
        raise UserError(f"--dtype={dtype}: must be one of {', '.join(DTYPES)}{hint}")
    there = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if there and not (flags["overwrite"] and {*there} <= {*places.FILES}):
        hint = "" if {*there} - {*places.FILES} else "; or --overwrite"
        raise UserError(f"--output={output}: holds {there[0]}; choose an empty folder{hint}")
    if output.exists() and output.resolve() == workdir.resolve():
        raise UserError(f"--output={output}: is the model itself; choose another")
    kinds = options.local_path("kinds", flags["kinds"]) if flags["kinds"] else None
    if kinds is not None and not kinds.is_file():
        raise UserError(f"--kinds={kinds}: no such file")
    seeds = read_workdirs(flags["seeds"]) if flags["seeds"] else []
    more = kinds, seeds, bool(flags["split_names"])
    return Folder(workdir, output, dtype, _about(flags["about"]), *more)


def _about(text: str) -> dict[str, str]:
    """Returns the texts of a TOML file."""
    if not text:
        return {}
    path = options.local_path("about", text)
    try:
        if path.stat().st_size > MAX_ABOUT_BYTES:
            raise UserError(f"--about={text}: must be at most {MAX_ABOUT_BYTES} bytes")
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"--about={text}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # of the encoding or the format
        raise UserError(f"--about={text}: is no TOML file: {error}") from error
    for name, value in found.items():
        if name not in FACTS or not isinstance(value, str):
            hint = did_you_mean(name, FACTS) if name not in FACTS else ""
            raise UserError(f"--about={text}: {name}: must be a text of {', '.join(FACTS)}{hint}")
    return found


def _size(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= SIDE):
        raise UserError(f"--size={text}: must be an integer, at least 1, at most {SIDE}")
    return int(text or 0)


def _platforms(text: str) -> tuple[str, ...]:
    found = tuple((text or PLATFORMS[0]).split(","))
    if not {*found} <= {*PLATFORMS} or len({*found}) < len(found):
        raise UserError(f"--platforms={text}: must be of {', '.join(PLATFORMS)}, joined by commas")
    return found
