"""Reads the command lines of the benchmarks."""

import argparse

from segdiff_jax.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Returns a parser without --help that raises its errors."""
    return argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False, add_help=False)


def step_parser() -> argparse.ArgumentParser:
    """Returns a parser of a configuration and of the options of its training step."""
    extended = parser()
    extended.add_argument("--config", default="MoNuSeg")
    extended.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    extended.add_argument("--remat", choices=("none", "rrdb", "unet", "all"), default="none")
    return extended


def read(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Reads a command line.

    Raises:
      UserError: anything that is misspelt.
    """
    try:
        values, left = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; see --help") from error
    if left:
        raise UserError(f"{left[0]}: no such option; see --help")
    return values
