"""PyTorch's .pt files of weights, read without PyTorch and without running anything in them.

Such a file is a zip whose entries are stored as they are: one folder with data.pkl, which says what
there is (see `torch_pickle`), and data/0, data/1, ... with the numbers. No name in it is ever used
as a path.
"""

import io
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.torch_weights import pickle_vm
from segdiff_jax.torch_weights.descriptors import KINDS, FormatError, Storage, Tensor, clip, demand

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # what files before PyTorch 1.6 begin with


PIECE = 1 << 24  # bytes that are read at once


ZIP_TROUBLE = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError),
    *(ValueError, OverflowError, struct.error),
)


class Limits(NamedTuple):
    """What is refused before it is read; the authors' largest network has 0.7 GB, 1100 tensors."""

    file_bytes: int = 1 << 33
    pickle_bytes: int = 1 << 22
    entries: int = 20_000
    depth: int = 4


LIMITS = Limits()


def read_tensors(path: Path, limits: Limits = LIMITS) -> dict[str, np.ndarray]:
    """Reads a state dict, which may lie in dictionaries: their keys are joined by dots.

    Args:
      path: of a file that `torch.save` has written, in the format of PyTorch 1.6 and later.
      limits: of its size.

    Returns:
      name -> array; read-only, and those that shared memory in PyTorch share it here. bfloat16
      becomes float32.

    Raises:
      UserError: it holds anything else, is damaged, or cannot be read.
    """
    try:
        with _Bounded(path) as file:
            return _read(file, limits)
    except FormatError as refused:
        raise UserError(f"{path}: {refused}", BAD_DATA) from refused
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}", BAD_DATA) from error
    except ZIP_TROUBLE as error:
        raise UserError(f"{path}: is damaged: {clip(error)}", BAD_DATA) from error


class _Bounded(io.BufferedReader):
    """A file that never gives more than a piece, whatever sizes it claims to have inside."""

    def __init__(self, path: Path) -> None:
        demand(path.is_file(), "no such file")
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1) -> bytes:
        wanted = PIECE if size is None or size < 0 else size
        demand(wanted <= PIECE, "says that its list of contents is enormous")
        return super().read(wanted)


def _read(file: _Bounded, limits: Limits) -> dict[str, np.ndarray]:
    start, length = file.peek(len(LEGACY)), file.seek(0, io.SEEK_END)
    demand(
        not start.startswith(LEGACY),
        "is of the format before PyTorch 1.6; save it again with a newer one: "
        "torch.save(torch.load(FILE, weights_only=True), NEW_FILE)",
    )
    demand(start.startswith(b"PK\x03\x04"), "is no file of torch.save, which writes zip files")
    demand(length <= limits.file_bytes, f"has {length} bytes, more than {limits.file_bytes}")
    with zipfile.ZipFile(file) as archive:
        entries = _entries(archive, length, limits)
        demand(entries["data.pkl"].file_size <= limits.pickle_bytes, "data.pkl is too long")
        try:
            tree = pickle_vm.read(archive.read(entries["data.pkl"]))
            tensors = dict(_tensors(tree, limits))
        except FormatError as refused:
            raise FormatError(f"data.pkl {refused}") from None
        storages: dict[str, tuple[Storage, np.ndarray]] = {}
        for tensor in tensors.values():
            wanted = tensor.storage
            if wanted.key not in storages:
                storages[wanted.key] = wanted, _numbers(archive, entries, wanted)
            demand(wanted == storages[wanted.key][0], f"data/{wanted.key} is of two kinds")
        return {name: _view(storages[t.storage.key][1], t) for name, t in tensors.items()}


def _entries(archive: zipfile.ZipFile, length: int, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """Returns the entries by their names in the one folder there is."""
    found = archive.infolist()
    demand(len(found) <= limits.entries, f"has {len(found)} entries, more than {limits.entries}")
    entries, folders = {}, set()
    for info in found:
        folder, _, name = info.filename.partition("/")
        parts = [folder, *name.split("/")]
        plain = all(re.fullmatch(r"[^\\:\0]+", part) and part not in (".", "..") for part in parts)
        demand(
            plain and len(parts) > 1,
            f"has the entry '{clip(info.filename)}', no path of torch.save",
        )
        demand(name not in entries, f"has the entry '{clip(info.filename)}' twice")
        as_it_is = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
        demand(
            as_it_is and info.compress_size == info.file_size,
            f"has {clip(name)} compressed or encrypted, which torch.save never does",
        )
        entries[name] = info
        folders.add(folder)
    demand("data.pkl" in entries and len(folders) == 1, "is a zip file, but not of torch.save")
    # nothing is compressed, so this also refuses entries that lie on top of each other
    demand(sum(info.file_size for info in found) <= length, "claims more bytes than it has")
    if order := entries.get("byteorder"):
        little = order.file_size == 6 and archive.read(order) == b"little"
        demand(little, "is not of a little-endian machine")
    return entries


def _tensors(tree: Any, limits: Limits) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of dictionaries in dictionaries, each dictionary once."""
    demand(type(tree) is dict, "holds no dictionary of tensors")
    waiting: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), tree)]
    seen, names = set(), set()
    while waiting:
        above, branch = waiting.pop()
        demand(id(branch) not in seen, "has one dictionary in two places")
        demand(len(above) < limits.depth, "has dictionaries in dictionaries, too many deep")
        seen.add(id(branch))
        for key, value in branch.items():
            name = ".".join((*above, key))
            demand(name not in names, f"names '{clip(name)}' twice")
            names.add(name)
            if type(value) is dict:
                waiting.append(((*above, key), value))
            else:
                demand(type(value) is Tensor, f"has '{clip(name)}', which is no tensor")
                yield name, value


def _numbers(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], storage: Storage
) -> np.ndarray:
    """Returns all numbers of a storage, [count]."""
    dtype, info = np.dtype(KINDS[storage.kind]), entries.get(f"data/{storage.key}")
    demand(info is not None, f"has no entry data/{storage.key}")
    assert info is not None  # or the line above would have raised
    demand(
        info.file_size == storage.count * dtype.itemsize,
        f"data/{storage.key} has {info.file_size} bytes, not {storage.count * dtype.itemsize}",
    )
    raw = np.empty(info.file_size, np.uint8)
    with archive.open(info) as entry:  # checks its sum at the end
        for start in range(0, raw.size, PIECE):
            piece = entry.read(min(PIECE, raw.size - start))
            demand(len(piece) == len(raw[start : start + PIECE]), "is cut off")
            raw[start : start + PIECE] = np.frombuffer(piece, np.uint8)
    numbers = raw.view(dtype)
    if storage.kind == "torch BFloat16Storage":  # the upper half of a float32
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    if storage.kind == "torch BoolStorage":
        numbers = numbers != 0
    return numbers


def _view(numbers: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Returns a tensor's part of its storage; NumPy checks once more that it lies within."""
    width = numbers.itemsize
    strides = tuple(stride * width for stride in tensor.strides)
    view = np.ndarray(tensor.shape, numbers.dtype, numbers, tensor.offset * width, strides)
    view.flags.writeable = False
    return view
