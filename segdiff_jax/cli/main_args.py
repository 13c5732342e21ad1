"""Parses the command line of `main`: prepare, check, train, evaluate, or all of them."""

import re
import zlib
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from segdiff_jax.checkpoint import run_config
from segdiff_jax.cli import options
from segdiff_jax.config import schema
from segdiff_jax.errors import UserError

ENCODING = "surrogateescape"  # of names of files that are no text
MAX_PORT, MAX_PROCESSES = 65535, 65536
MODES = ("all", "check", "prepare", "train", "evaluate")
FLAGS = {"workdir": "", "device": "", "coordinator": "", "processes": 0, "process": -1}
SUMMARIES = {  # by mode; "": --mode gives it
    "": "SegDiff: trains a diffusion model that segments images, and evaluates it.",
    "prepare": "Prepares a data set, once: reads the official files and stores the images.",
    "check": "Reads every file of a data set, tells what it is made of, and draws check.png.",
    "train": "Trains a network on a data set that was prepared, or continues a run.",
    "evaluate": "Scores the result of a run on the test split and writes report/report.html.",
}
HELP = """{summary}

  {command} --config=configs/synthetic.py
  {command} --config=configs/monuseg.py:small --config.data.dir=DIR

  --config=FILE[:ARGUMENT]   Python file with get_config, called with the ARGUMENT: monuseg, or
                             configs/monuseg.py, is the authors' network; monuseg:small suits CPUs
  --config.GROUP.KEY=VALUE   sets a field of segdiff_jax/config/schema.py, such as
                             --config.train.steps=10 or --config.model.multipliers=1,2,2
  --workdir=DIR              checkpoints, metrics, report; runs/FILE[-ARGUMENT] if not given,
                             with a checksum where the argument is a path or FILE lies elsewhere.
                             The same command again continues a run that was stopped
  --device=cpu|gpu|tpu       what computes; the fastest that JAX finds if not given
  --coordinator=HOST:PORT --processes=N --process=I
                             a job of several processes; --coordinator=auto where JAX finds them;
                             all end if one has not joined within config.job.join_seconds
{mode}  --help                     prints this text

Exit codes: 0 done; 64 bad command line or config; 65 bad data; 66 bad checkpoint; 70 a number is
not finite, or an internal error; 74 cannot write; 130 and 143 interrupted and terminated, the
state is saved; 134 lost another process of the job; 142 hung.

On Linux the program restarts itself at its start, for huge pages, unless the environment has
GLIBC_TUNABLES=glibc.malloc.hugetlb=0."""
MODE_HELP = """\
  --mode=MODE                prepare (the data set) | train | evaluate (the result, and write the
                             report) | all: one after the other, the default; check: read every
                             file of the data set and list the unusable ones
"""


class Command(NamedTuple):
    """Holds a parsed command line."""

    config: ConfigDict  # checked, and locked against new keys
    workdir: Path  # of the run; need not exist
    mode: str  # one of MODES
    coordinator: str  # "host:port" of process 0, "auto", or "" for one process
    processes: int  # their number, with "host:port"
    process: int  # the number of this one, from 0
    device: str = ""  # of options.DEVICES, or "": that JAX chooses


def help_of(mode: str) -> str:
    """Returns the help of a sub-command, or of the program if mode is ""."""
    command = f"segdiff {mode}" if mode else "python -m segdiff_jax.main"
    return HELP.format(summary=SUMMARIES[mode], command=command, mode="" if mode else MODE_HELP)


def parse(argv: list[str], mode: str = "") -> Command:
    """Parses the arguments of a sub-command, or of the program if mode is "": --mode gives it.

    Raises:
      UserError: a flag is unknown, or a value missing or not allowed.
    """
    source, config, rest = options.read_config(argv)
    values = options.read_flags(FLAGS if mode else FLAGS | {"mode": MODES[0]}, rest, config)
    options.check_config(config)
    mode = mode or values["mode"]
    if mode not in MODES:
        hint = schema.did_you_mean(mode, MODES)
        raise UserError(f"--mode={mode}: must be one of {', '.join(MODES)}{hint}")
    workdir = options.directory("workdir", values["workdir"] or f"runs/{run_name(source)}")
    for name, text in (("--workdir", str(workdir)), ("prepared_dir", config.data.prepared_dir)):
        if re.search("[\0-\x1f\x7f\ud800-\udfff]", text):
            raise UserError(f"{name}={text!r}: must be text without control characters")
    job = values["coordinator"], values["processes"], values["process"]
    _check_job(*job)
    if mode in ("all", "train"):
        run_config.start_of(config, workdir)  # a network that does not fit is named at once
    options.use_device(values["device"])
    return Command(config, workdir, mode, *job, device=values["device"])


def run_name(source: str) -> str:
    """Returns the name of the run of a --config; two different ones never have the same.

    It is monuseg-small of configs/monuseg.py:small and of monuseg:small. A checksum follows where
    that would not tell them apart: of files elsewhere, and of arguments that are more than words
    between commas.
    """
    name, argument = options.split_source(source)
    bare = options.shipped_config(name) is not None and "/" not in name
    path = Path("configs", f"{name}.py") if bare else Path(name)
    words = [path.stem, *re.findall(r"[\w.]+", argument)]
    elsewhere = path.resolve() != Path("configs", path.name).resolve()
    plain = [path.stem, *(argument.split(",") if argument else [])]
    if elsewhere or words != plain or "-" in path.stem:
        words.append(f"{zlib.crc32(f'{path.resolve()}:{argument}'.encode(errors=ENCODING)):08x}")
    return "-".join(words)


def _check_job(coordinator: str, count: int, process: int) -> None:
    if coordinator in ("", "auto"):
        if count or process >= 0:
            raise UserError("--processes and --process need --coordinator=HOST:PORT")
    elif not (match := re.fullmatch(r"\S+:(\d{1,5})", coordinator)) or int(match[1]) > MAX_PORT:
        raise UserError(f"--coordinator={coordinator}: must be HOST:PORT or auto")
    elif count > MAX_PROCESSES:
        raise UserError(f"--processes={count}: must be at most {MAX_PROCESSES}")
    elif not 0 <= process < count:
        demand = f"must be at least 0 and less than --processes={count}"
        raise UserError(f"--process={process}: {demand}")
