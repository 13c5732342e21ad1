"""Reads and writes the weights of a network as one file of the format safetensors.

A folder with this file and a config.json is a model that predicts like a run. The names of its
arrays are the Flax paths, such as "unet/out/conv/kernel". It may come from anywhere.
"""

import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from segdiff_jax.checkpoint import trust
from segdiff_jax.errors import BAD_CHECKPOINT, UserError, one_line
from segdiff_jax.runtime import files

FORMAT = "1"
DTYPES = {"float16": np.float16, "float32": np.float32}
STORED = {"F16": 2, "F32": 4}  # bytes of each type that is read
MAX_HEADER_BYTES = 2**22  # some hundred bytes an array
MAX_NAMED = 3  # arrays in a message
MAX_UPDATES = 10**12

Shapes = Mapping[str, tuple[int, ...]]  # by path


def write(path: Path, arrays: Mapping[str, np.ndarray], step: int, dtype: str = "float32") -> None:
    """Writes arrays by path, with a checksum, and the number of updates they have seen.

    Args:
      path: of the file; one that is there is replaced.
      arrays: float32.
      step: training steps.
      dtype: one of `DTYPES`, of the values in the file.

    Raises:
      UserError: a value is not finite, or not as float16; or the file cannot be written.
    """
    with np.errstate(over="ignore"):
        stored = {name: np.asarray(x, DTYPES[dtype], order="C") for name, x in arrays.items()}
    if bad := [name for name, x in stored.items() if not np.isfinite(x).all()]:
        what = f"{bad[0]} has values that are not finite as {dtype}"
        raise UserError(f"{path}: not written: {what}", BAD_CHECKPOINT)
    about = {"format": "flax", "segdiff_jax": FORMAT, "updates": str(step)}
    files.write_bytes(path, save(stored, {**about, "crc32": _checksum(stored)}))


def read(path: Path, shapes: Shapes) -> tuple[int, dict[str, np.ndarray]]:
    """Returns (training steps, arrays of float32 by path).

    Nothing larger than the network is read. Arrays that only one of file and network has, and those
    of another shape or type, are named.

    Args:
      path: of the file.
      shapes: of the network's own arrays, by path.

    Raises:
      UserError: the file is missing, damaged or of another network.
    """
    _check_size(path, shapes)
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if differing := _differences(file, shapes):
                raise _refusal(path, f"is of another network than its config.json: {differing}")
            stored = {name: file.get_tensor(name) for name in sorted(shapes)}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise _refusal(path, f"is damaged: {one_line(error)}") from error
    if "crc32" not in about:
        logging.warning("%s was written without a checksum: not verified", path)
    elif about["crc32"] != _checksum(stored):
        raise _refusal(path, "is damaged: its values are not what was written")
    arrays = {name: np.asarray(x, np.float32) for name, x in stored.items()}
    if bad := [name for name, x in arrays.items() if not np.isfinite(x).all()]:
        raise _refusal(path, f"is damaged: {bad[0]} is not finite")
    return _updates(path, about), arrays


def _check_size(path: Path, shapes: Shapes) -> None:
    """Refuses, before it is opened, what is no file, or larger than the network's weights."""
    most = MAX_HEADER_BYTES + 4 * sum(math.prod(shape) for shape in shapes.values())
    trust.check_weights_file(path, most)
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) < 8 or struct.unpack("<Q", start)[0] > MAX_HEADER_BYTES:
        raise _refusal(path, "is damaged: it has no header of a safetensors file")


def _differences(file: Any, shapes: Shapes) -> str:
    """Returns which arrays of an open file are not those of the network; "": none."""
    found = {name: file.get_slice(name) for name in file.keys()}
    odd = []
    for name in sorted(found.keys() & shapes.keys()):
        shape, stored = tuple(found[name].get_shape()), found[name].get_dtype()
        if shape != tuple(shapes[name]):
            odd.append(f"{name} is {list(shape)}, not {list(shapes[name])}")
        elif stored not in STORED:
            odd.append(f"{name} is of type {stored[:20]}, not {' or '.join(STORED)}")
    parts = [
        _listed("", odd, ""),
        _listed("lacks ", sorted(shapes.keys() - found.keys()), ""),
        _listed("has ", sorted(found.keys() - shapes.keys()), " besides"),
    ]
    return "; ".join(filter(None, parts))


def _listed(before: str, names: Iterable[str], after: str) -> str:
    """Returns some of the names in a part of a sentence; "" if there are none."""
    names = [name[:100] for name in names]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{before}{', '.join(names[:MAX_NAMED])}{more}{after}" if names else ""


def _updates(path: Path, about: Mapping[str, str]) -> int:
    text = about.get("updates", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < MAX_UPDATES):
        raise _refusal(path, f"is damaged: {text[:40]!r} updates")
    return int(text)


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the CRC-32 of the bytes of all arrays, in the order of their names."""
    value = 0
    for name in sorted(arrays):
        little = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False)
        value = zlib.crc32(little.tobytes(), value)
    return f"{value:08x}"


def _refusal(path: Path, what: str) -> UserError:
    return UserError(f"{path} {what}", BAD_CHECKPOINT)
