"""Defines the command `segdiff`: each sub-command runs a program, which parses the rest.

Programs are imported by name, only when they are run: imports go down (tests/test_architecture.py),
and jax takes seconds to import.
"""

import importlib
from typing import NamedTuple

from segdiff_jax import __version__, errors
from segdiff_jax.cli import app
from segdiff_jax.config.schema import did_you_mean


class Program(NamedTuple):
    """Describes a sub-command: a module with `main(argv, *mode)`, and a line of help."""

    module: str
    mode: tuple[str, ...] = ()
    summary: str = ""


COMMANDS = {
    "train": Program("main", ("train",), "train a network, or continue a run"),
    "evaluate": Program("main", ("evaluate",), "score a run and write its report"),
    "prepare": Program("main", ("prepare",), "prepare a data set"),
    "check": Program("main", ("check",), "list unusable files; of a run, wrong annotations"),
    "predict": Program("predict", (), "predict the masks of a folder of images"),
    "app": Program("app.run", (), "open a page in the browser: drop pictures, see outlines"),
    "calibrate": Program("review.calibrate", (), "make the certainty of a run's predictions hold"),
    "rate": Program("review.rate", ("rate",), "rate masks from elsewhere with a run"),
    "import": Program("import_torch", ("import",), "make a run of the authors' PyTorch weights"),
    "export": Program("export.run", ("export",), "write a trained network for others"),
    "models": Program("export.run", ("models",), "list the networks that are part of the package"),
    "experiments run": Program("experiments.run", (), "run the paper's experiments"),
    "experiments report": Program("experiments.report", (), "write the paper's tables and figures"),
}
# `check` of a run instead of a data set, see `_program`
CHECK_RUN = Program("review.rate", ("check",))
USAGE = """SegDiff: image segmentation by diffusion.

  segdiff COMMAND --help     explain a command and its flags
  segdiff --config=FILE ...  prepare, train and evaluate, one after the other
  segdiff --version          print the version

{commands}

Exit codes: 0 done; 64 bad command line; the others are explained by the help of each command."""


def main(argv: list[str]) -> int:
    """Runs a command line and returns its exit code."""
    for length in (2, 1):  # words of a name
        if (name := " ".join(argv[:length])) in COMMANDS:
            return _run(_program(name, argv[length:]), argv[length:])
    first, *rest = argv or ["--help"]
    if first in app.HELP:
        return _usage(list(COMMANDS))
    if first == "--version":
        return app.show(__version__)
    if first.startswith("-"):  # no command: all modes
        return _run(Program("main"), argv)
    group = [name for name in COMMANDS if name.startswith(f"{first} ")]
    if group and (not rest or rest[0] in app.HELP):
        return _usage(group)
    name = " ".join(argv[:2]) if group else first
    hint = did_you_mean(name, COMMANDS) or "; see segdiff --help"
    return app.fail(f"{name}: no such command{hint}", errors.USAGE)


def _program(name: str, argv: list[str]) -> Program:
    """Returns the program of a command: `check` without a config is that of a run."""
    given = {argument.partition("=")[0].lstrip("-") for argument in argv}
    of_run = name == "check" and "workdir" in given and "config" not in given
    return CHECK_RUN if of_run else COMMANDS[name]


def _run(program: Program, argv: list[str]) -> int:
    module = importlib.import_module(f"segdiff_jax.{program.module}")
    return module.main(argv, *program.mode)


def _usage(names: list[str]) -> int:
    lines = [f"  segdiff {name:19}{COMMANDS[name].summary}" for name in names]
    return app.show(USAGE.format(commands="\n".join(lines)))


def run() -> None:
    """Runs the command line of this process, and exits: the console script."""
    app.start(main)


if __name__ == "__main__":
    run()
