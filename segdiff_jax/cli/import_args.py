"""Parses the command line of `import_torch`: import of the authors' weights, or export to them."""

import re
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from segdiff_jax.cli import options
from segdiff_jax.config import default, flatten
from segdiff_jax.errors import BAD_CHECKPOINT, UserError

# names of the authors' checkpoints: ..._060000.pt and model060000.pt
UPDATES = re.compile(r"(?:.*_|model)(\d{6,9})")
IMPORT_HELP = """Makes a run of the weights of the authors' PyTorch code.

  segdiff import --weights=FILE.pt --config=configs/monuseg.py --workdir=DIR

  --weights=FILE.pt          checkpoint of the authors' code, such as ema_0.9999_060000.pt; it is
                             read without PyTorch, and nothing in it is executed
  --config=FILE[:ARGUMENT]   of the network that was trained; --config.GROUP.KEY=VALUE sets a field.
                             Its args.json has the values: model.rrdb_blocks, diffusion.T, ...
  --workdir=DIR              becomes a run, which predict and evaluate accept. Training continues
                             from these weights, with a fresh state of the optimizer
  --step=N                   updates the weights have seen; if not given, the number at the end of
                             the file's name, _060000.pt or model060000.pt; 0 if there is none
"""
EXPORT_HELP = """Writes the averaged weights of a run as a file of the authors' PyTorch code.

  segdiff export --export=FILE.pt --workdir=DIR

  --workdir=DIR              directory of the run
  --export=FILE.pt           file to write. The authors' scripts expect the number of updates at
                             the end of its name: ema_0.9999_060000.pt
"""
COMMON_HELP = """  --help                     prints this text

Exit codes: 0 done; 64 bad command line or config; 65 the file is unusable; 66 it holds another
network, or the run has no checkpoint; 70 an internal error; 74 cannot write."""
HELPS = {  # by mode
    "import": f"{IMPORT_HELP}{COMMON_HELP}",
    "export": f"{EXPORT_HELP}{COMMON_HELP}",
    "": f"{IMPORT_HELP}\n{EXPORT_HELP}{COMMON_HELP}",
}
FLAGS = {"import": ("weights", "workdir", "step"), "export": ("export", "workdir")}
FLAGS[""] = ("weights", "export", "workdir", "step")


class Import(NamedTuple):
    """Holds a parsed command line that imports weights."""

    weights: Path  # the authors' file; exists
    config: ConfigDict  # of the run, checked
    workdir: Path  # of the run; holds none yet
    step: int  # updates the weights have seen


class Export(NamedTuple):
    """Holds a parsed command line that exports a run."""

    file: Path  # does not exist yet
    workdir: Path  # of the run


def parse(argv: list[str], mode: str = "") -> Import | Export:
    """Parses the arguments of "import", of "export", or of the program if mode is "".

    Raises:
      UserError: a flag is unknown, a value missing or not allowed, or a file in the way.
    """
    sources, rest = options.config_sources(argv)
    config = options.load_config(options.only(sources)) if sources else default()
    given = options.read_flags(dict.fromkeys(FLAGS[mode], ""), rest, config)
    values = dict.fromkeys(FLAGS[""], "") | given
    if mode and not values[FLAGS[mode][0]]:
        raise UserError(f"--{FLAGS[mode][0]} is missing: must be a .pt file")
    if bool(values["weights"]) == bool(values["export"]):
        raise UserError("--weights=FILE.pt (to import) or --export=FILE.pt: one of the two; --help")
    if not values["workdir"]:
        raise UserError("--workdir is missing: must be the directory of the run")
    workdir = options.directory("workdir", values["workdir"])
    if values["export"]:
        if sources or flatten(config) != flatten(default()) or values["step"]:
            raise UserError("--export takes no --config and no --step: the run has its own")
        return parse_export(options.local_path("export", values["export"]), workdir)
    options.only(sources)
    options.check_config(config)
    weights = options.local_path("weights", values["weights"])
    return _import(weights, config, workdir, values["step"])


def _import(weights: Path, config: ConfigDict, workdir: Path, step: str) -> Import:
    if not weights.is_file():
        raise UserError(f"--weights={weights}: no such file")
    if any((workdir / name).exists() for name in ("config.json", "checkpoints")):
        raise UserError(f"--workdir={workdir}: holds a run already; choose another")
    if not config.data.mean:
        raise UserError("config.data.mean=(): must be given, and data.std: those of the training")
    if config.train.result != "last":
        raise UserError("config.train.result='best': must be last: nothing has been validated here")
    if not step:
        match = UPDATES.fullmatch(weights.stem)
        step = match[1] if match else "0"
    elif not re.fullmatch(r"\d{1,9}", step):
        raise UserError(f"--step={step}: must be an integer, at least 0, below 1000000000")
    return Import(weights, config, workdir, int(step))


def parse_export(file: Path, workdir: Path, flag: str = "export") -> Export:
    """Returns a command that writes a file, which a flag named.

    Raises:
      UserError: the directory holds no run, or the file cannot be made.
    """
    if not (workdir / "config.json").is_file():
        raise UserError(f"--workdir={workdir}: holds no run: no config.json", BAD_CHECKPOINT)
    if file.exists():
        raise UserError(f"--{flag}={file}: exists already; choose another")
    if not file.parent.is_dir():
        raise UserError(f"--{flag}={file}: must be in a directory that exists")
    return Export(file, workdir)
