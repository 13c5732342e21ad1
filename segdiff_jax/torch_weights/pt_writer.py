"""Writes weights as a .pt file for `torch.load(FILE, weights_only=True)`; needs no PyTorch.

The format is that of PyTorch 1.6 and later: a zip archive of one folder, uncompressed.
"""

import math
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FOLDER = "archive"
EMPTY = b"ccollections\nOrderedDict\n)R"  # OrderedDict()
DATE = (1980, 1, 1, 0, 0, 0)  # a constant: equal weights give equal files


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict atomically; never overwrites a file.

    Raises:
      ValueError: an array is not of float32, or is empty.
      FileExistsError: the file exists.
      OSError: the file cannot be written, or its directory does not exist.
    """
    for name, array in tensors.items():
        if array.dtype != np.float32 or not array.size:
            raise ValueError(f"{name} is {array.dtype} {array.shape}; it must be float32")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as directory:
        whole = Path(directory, "whole.pt")
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, "data.pkl", _pickled(tensors))
            _add(archive, "byteorder", b"little")
            for key, array in enumerate(tensors.values()):
                _add(archive, f"data/{key}", np.ascontiguousarray(array, "<f4").tobytes())
            _add(archive, "version", b"3\n")
        if path.exists():
            raise FileExistsError(f"{path} exists")
        whole.replace(path)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(f"{FOLDER}/{name}", DATE), data)


def _pickled(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Returns the pickle of a state dict of float32 tensors; tensor i is the whole storage i."""
    parts = [b"\x80\x02", EMPTY, b"("]
    for key, (name, array) in enumerate(tensors.items()):
        strides = [math.prod(array.shape[i + 1 :]) for i in range(array.ndim)]
        parts += [_text(name), b"ctorch._utils\n_rebuild_tensor_v2\n("]
        parts += [b"(", _text("storage"), b"ctorch\nFloatStorage\n", _text(str(key)), _text("cpu")]
        parts += [_integer(array.size), b"tQ", _integer(0)]
        parts += [b"(", *map(_integer, array.shape), b"t(", *map(_integer, strides), b"t"]
        parts += [b"\x89", EMPTY, b"tR"]  # needs no gradient, has no hooks
    return b"".join([*parts, b"u."])


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)
