"""Weights of a file, held to those that a network needs: every name, every shape, every number."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import logging

from segdiff_jax.errors import BAD_CHECKPOINT, BAD_DATA, UserError
from segdiff_jax.torch_weights.pt_reader import printable

LINES = 100  # of a mismatch that are printed


Arrays = Mapping[str, np.ndarray]


def matched(path: Path, found: Arrays, wanted: Arrays) -> dict[str, np.ndarray]:
    """Returns what a file holds for each name that is wanted, as float32.

    What all names of the file begin with, the key of a dictionary around them, is left out.

    Args:
      path: of the file, for messages.
      found: in the file.
      wanted: only names and shapes count.

    Raises:
      UserError: a name or shape is on one side only, its details say which; or a number is not
        finite.
    """
    found = _unwrapped(found)
    if lines := differences(found, wanted):
        left = len(lines) - LINES
        raise UserError(
            f"{path} is not of the network of --config: the lines above are only in the file (-) "
            "or only in the network (+)",
            BAD_CHECKPOINT,
            [*lines[:LINES], *([f"... {left} lines more"] if left > 0 else [])],
        )
    return {name: _float32(f"{path}: {name}", found[name]) for name in wanted}


def differences(found: Arrays, wanted: Arrays) -> list[str]:
    """Returns a line for each name and shape of one side only: - found, + wanted."""
    lines = []
    for name in sorted(found.keys() | wanted.keys()):
        minus, plus = (side[name].shape if name in side else None for side in (found, wanted))
        if minus != plus:
            lines += [] if minus is None else [f"- {printable(name)} {minus}"]
            lines += [] if plus is None else [f"+ {printable(name)} {plus}"]
    return lines


def _unwrapped(tensors: Arrays) -> Arrays:
    while all("." in name for name in tensors):
        beginnings = {name.partition(".")[0] for name in tensors}
        if len(beginnings) != 1:
            break
        logging.info("every name begins with '%s', which is left out", printable(*beginnings))
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    return tensors


def _float32(place: str, tensor: np.ndarray) -> np.ndarray:
    if tensor.dtype.kind != "f":
        raise UserError(f"{place} is of {tensor.dtype}; weights are of float", BAD_DATA)
    with np.errstate(over="ignore"):  # of a double that is too large, which is refused below
        array = np.ascontiguousarray(tensor, np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{place} holds a number that is not finite", BAD_DATA)
    return array
