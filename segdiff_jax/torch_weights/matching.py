"""Checks the weights of a file against those of a network: names, shapes and numbers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import logging

from segdiff_jax.errors import BAD_CHECKPOINT, BAD_DATA, UserError
from segdiff_jax.torch_weights.pt_reader import printable

MAX_LINES = 100  # of a printed mismatch
Arrays = Mapping[str, np.ndarray]


def match(path: Path, found: Arrays, wanted: Arrays) -> dict[str, np.ndarray]:
    """Returns the arrays found in a file in the order of those of a network, as float32.

    A prefix of all names in the file, the key of a dictionary around the weights, is removed. Of
    the arrays wanted, only names and shapes matter.

    Raises:
      UserError: a name or shape is on one side only (listed in its details), or a number is not
        finite.
    """
    found = _without_prefix(found)
    if lines := differences(found, wanted):
        left = len(lines) - MAX_LINES
        raise UserError(
            f"{path} is not of the network of --config: the lines above are only in the file (-) "
            "or only in the network (+)",
            BAD_CHECKPOINT,
            [*lines[:MAX_LINES], *([f"... {left} lines more"] if left > 0 else [])],
        )
    return {name: _float32(f"{path}: {name}", found[name]) for name in wanted}


def differences(found: Arrays, wanted: Arrays) -> list[str]:
    """Returns a line for each name and shape on one side only: - found, + wanted."""
    lines = []
    for name in sorted(found.keys() | wanted.keys()):
        minus, plus = (side[name].shape if name in side else None for side in (found, wanted))
        both = (("-", minus), ("+", plus)) if minus != plus else ()
        lines += [f"{sign} {printable(name)} {s}" for sign, s in both if s is not None]
    return lines


def _without_prefix(tensors: Arrays) -> Arrays:
    while all("." in name for name in tensors):
        prefixes = {name.partition(".")[0] for name in tensors}
        if len(prefixes) != 1:
            break
        logging.info("every name begins with '%s', which is removed", printable(*prefixes))
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    return tensors


def _float32(path: str, tensor: np.ndarray) -> np.ndarray:
    if tensor.dtype.kind != "f":
        raise UserError(f"{path} is of {tensor.dtype}; weights are of float", BAD_DATA)
    with np.errstate(over="ignore"):  # of doubles that are too large, refused below
        array = np.ascontiguousarray(tensor, np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{path} holds a number that is not finite", BAD_DATA)
    return array
