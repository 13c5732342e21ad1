"""Parses what all command lines share."""

from pathlib import Path

from segdiff_jax.errors import UserError


def local_path(name: str, text: str) -> Path:
    """Returns the path that a flag names.

    Raises:
      UserError: it is the address of a bucket or of a page.
    """
    if "://" in text:
        raise UserError(
            f"--{name}={text}: must be a place in a file system of this machine: a bucket has to "
            "be mounted, see launch/README.md"
        )
    return Path(text).expanduser()
