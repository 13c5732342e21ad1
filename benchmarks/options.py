"""What the command lines of the benchmarks share."""

import argparse

from segdiff_jax.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Returns a parser that leaves help and errors to the programme."""
    return argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False, add_help=False)


def of_an_update() -> argparse.ArgumentParser:
    """Returns a parser that also takes a configuration, and how its update is computed."""
    made = parser()
    made.add_argument("--config", default="MoNuSeg")
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    made.add_argument("--remat", choices=("none", "rrdb", "unet", "all"), default="none")
    return made


def read(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Reads a command line.

    Raises:
      UserError: anything that is misspelt.
    """
    try:
        values, left = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; see --help") from error
    if left:
        raise UserError(f"{left[0]}: no such option; see --help")
    return values
