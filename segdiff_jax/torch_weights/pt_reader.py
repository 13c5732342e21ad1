"""Reads PyTorch's weight files (.pt) without PyTorch and without running anything in them.

`torch.save` writes a zip archive of uncompressed entries in one folder: data.pkl, the pickle of a
state dict, and data/0, data/1, ... with the numbers of its storages. The unpickler here builds only
dictionaries, tuples, text, numbers and descriptions of tensors; the arrays are read afterwards.
No name in the archive is used as a path.
"""

import io
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from segdiff_jax.errors import BAD_DATA, UserError

# PyTorch's storage classes -> NumPy's little-endian types; bfloat16 is read as its 16 bits
DTYPES = {
    **{"FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2"},
    **{"DoubleStorage": "<f8", "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2"},
    **{"CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "<u1"},
}
# the instructions in the pickle of a state dict; EMPTY_DICT and BUILD have versions of their own
OPCODES = (
    "PROTO STOP MARK GLOBAL BINPERSID REDUCE NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 "
    "BINUNICODE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE SETITEM SETITEMS BINPUT LONG_BINPUT BINGET "
    "LONG_BINGET"
).split()
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the start of files before PyTorch 1.6
ENTRY = re.compile(r"((?!\.\.?/)[^/\\:\0]+/)+(?!\.\.?$)[^/\\:\0]+")  # folders and a name
CHUNK = 1 << 24  # bytes of a single read
MAX_DIMENSIONS = 8
MAX_KEY = 500  # characters
# what zipfile and pickle raise for damaged data
DAMAGE = (ValueError, EOFError, OverflowError, struct.error)
ZIP_DAMAGE = (*DAMAGE, zipfile.BadZipFile, NotImplementedError, RuntimeError)
PICKLE_DAMAGE = (*DAMAGE, pickle.UnpicklingError, IndexError, TypeError, AttributeError)


class FormatError(Exception):
    """Reports that a file is no state dict; the message continues a sentence that it begins."""


class Limits(NamedTuple):
    """Sizes above which a file is refused; the authors' largest network: 0.7 GB, 1100 tensors."""

    file_bytes: int = 1 << 33
    pickle_bytes: int = 1 << 22
    entries: int = 20_000  # also of names in a state dict
    depth: int = 4  # of dictionaries inside one another


class Storage(NamedTuple):
    """Describes the entry data/`key`: `count` numbers of a kind, a key of `DTYPES`."""

    kind: str
    key: str
    count: int


class Tensor(NamedTuple):
    """Describes a view of a storage; offset, shape and strides count numbers and lie within it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


LIMITS = Limits()


def read_tensors(path: Path, limits: Limits = LIMITS) -> dict[str, np.ndarray]:
    """Reads a state dict of PyTorch 1.6 or later; keys of nested dictionaries are joined by dots.

    Returns:
      name -> array, read-only; tensors that shared memory in PyTorch share it here. bfloat16
      becomes float32.

    Raises:
      UserError: the file holds anything else, is damaged, or cannot be read.
    """
    try:
        with _BoundedFile(path) as file:
            return _read(file, limits)
    except FormatError as refusal:
        raise UserError(f"{path}: {refusal}", BAD_DATA) from refusal
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}", BAD_DATA) from error
    except ZIP_DAMAGE as error:
        raise UserError(f"{path}: is damaged: {printable(error)}", BAD_DATA) from error


def printable(value: object) -> str:
    """Returns text from a file cut to 100 characters, with control characters escaped."""
    text = str(value)[:100]
    return text if text.isprintable() else ascii(text)[1:-1]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FormatError(message)


class _BoundedFile(io.BufferedReader):
    """Refuses reads of more than `CHUNK` bytes, which a size inside the file may ask for."""

    def __init__(self, path: Path) -> None:
        _require(path.is_file(), "no such file")
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1) -> bytes:
        wanted = CHUNK if size is None or size < 0 else size
        _require(wanted <= CHUNK, "has an enormous list of contents")
        return super().read(wanted)


def _read(file: _BoundedFile, limits: Limits) -> dict[str, np.ndarray]:
    start, length = file.peek(len(LEGACY)), file.seek(0, io.SEEK_END)
    advice = "save it again with a newer one: torch.save(torch.load(FILE, weights_only=True), NEW)"
    _require(not start.startswith(LEGACY), f"is of the format before PyTorch 1.6; {advice}")
    _require(start.startswith(b"PK\x03\x04"), "is not a file of torch.save, which writes zip files")
    _require(length <= limits.file_bytes, f"has {length} bytes, more than {limits.file_bytes}")
    with zipfile.ZipFile(file) as archive:
        entries = _entries(archive, length, limits)
        _require(entries["data.pkl"].file_size <= limits.pickle_bytes, "data.pkl is too long")
        try:
            tensors = dict(_flatten(_unpickle(archive.read(entries["data.pkl"])), limits))
        except FormatError as refusal:
            raise FormatError(f"data.pkl {refusal}") from None
        storages: dict[str, Storage] = {}
        for storage, *_ in tensors.values():
            same = storages.setdefault(storage.key, storage) == storage
            _require(same, f"data/{printable(storage.key)} is of two kinds")
        arrays = {key: _read_storage(archive, entries, one) for key, one in storages.items()}
    return {name: _view(arrays[t.storage.key], t) for name, t in tensors.items()}


def _view(numbers: np.ndarray, t: Tensor) -> np.ndarray:
    """Returns a tensor as a view of its storage; NumPy checks once more that it lies within."""
    width = numbers.itemsize
    strides = [stride * width for stride in t.strides]
    return np.ndarray(t.shape, numbers.dtype, numbers, t.offset * width, strides)


def _entries(archive: zipfile.ZipFile, length: int, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """Returns the entries by their names inside the archive's one folder."""
    found, entries = archive.infolist(), {}
    _require(len(found) <= limits.entries, f"has {len(found)} entries, more than {limits.entries}")
    for info in found:
        path, name = printable(info.filename), info.filename.partition("/")[2]
        plain = ENTRY.fullmatch(info.filename) is not None
        _require(plain, f"has the entry '{path}', which torch.save never writes")
        _require(name not in entries, f"has the entry '{path}' twice")
        stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
        stored = stored and info.compress_size == info.file_size
        _require(stored, f"has '{path}' compressed or encrypted, which torch.save never does")
        entries[name] = info
    folders = {info.filename.partition("/")[0] for info in found}
    _require("data.pkl" in entries and len(folders) == 1, "is a zip file, but not of torch.save")
    # no entry is compressed, so this also refuses entries that share bytes
    _require(sum(info.file_size for info in found) <= length, "claims more bytes than it has")
    if order := entries.get("byteorder"):
        little = order.file_size == 6 and archive.read(order) == b"little"
        _require(little, "is not of a little-endian machine")
    return entries


def _unpickle(data: bytes) -> Any:
    """Returns the object in a pickle: dictionaries in dictionaries, with `Tensor`s as leaves."""
    file = io.BytesIO(data)
    unpickler = _Unpickler(file)
    try:
        tree = unpickler.load()
    except KeyError as error:  # of `dispatch`
        opcode = repr(chr(error.args[0]))
        raise FormatError(f"has the instruction {opcode}, which no state dict needs") from error
    except PICKLE_DAMAGE as error:
        raise FormatError(f"is not a state dict: {printable(error) or 'it is cut off'}") from error
    _require(file.tell() == len(data), "goes on after its end")
    _require(not unpickler.stack and not unpickler.metastack, "ends with something left over")
    return tree


class _Dict(dict[Any, Any]):
    """Accepts each key once, and only text: a nested tuple may take arbitrarily long to hash."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        _require(type(key) is str, "has a key that is not text, so it is not of a network")
        _require(len(key) <= MAX_KEY, f"has a key of {len(key)} characters, more than {MAX_KEY}")
        _require(key not in self, f"has the key '{printable(key)}' twice")
        super().__setitem__(key, value)


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any
) -> Tensor:
    _require(type(storage) is Storage, "has a tensor without a storage")
    _require(type(hooks) is _Dict and not hooks, "has a tensor with hooks")
    tuples = type(shape) is tuple and type(strides) is tuple
    _require(tuples and len(shape) == len(strides) <= MAX_DIMENSIONS, "has a tensor of no shape")
    counts = all(type(n) is int and 0 <= n < 1 << 62 for n in (offset, *shape, *strides))
    _require(counts, "has a tensor whose shape, strides or offset are not counts")
    _require(0 not in shape, "has a tensor without numbers")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    _require(last < storage.count, "has a tensor that reaches beyond its storage")
    _require(math.prod(shape) <= storage.count, "has a tensor that is larger than its storage")
    return Tensor(storage, offset, shape, strides)


class _Unpickler(pickle._Unpickler):
    """Unpickles a state dict into descriptions; imports nothing and sets no attributes.

    The base is the Python implementation of `pickle.Unpickler`, because its table of instructions
    can be reduced to `OPCODES` and its dictionaries replaced. The C implementation would hash any
    tuple as a key, which recurses without limit, and allocates its memo up to any index.
    """

    stack: list[Any]
    metastack: list[list[Any]]
    dispatch: ClassVar[dict[int, Any]] = {
        code: pickle._Unpickler.dispatch[code]
        for code in [ord(getattr(pickle, opcode)) for opcode in OPCODES]
    }
    functions = {
        "collections.OrderedDict": lambda: _Dict(),
        "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
        "torch._utils._rebuild_parameter": lambda tensor, requires_grad, hooks: tensor,
    }

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return name
        path = f"{module}.{name}"
        _require(path in self.functions, f"asks for '{printable(path)}', which no state dict needs")
        return self.functions[path]

    def persistent_load(self, pid: Any) -> Storage:
        types = list(map(type, pid)) if type(pid) is tuple else []
        known = types == [str, str, str, str, int] and pid[0] == "storage" and pid[1] in DTYPES
        _require(known, "refers to something that is not a storage of numbers")
        return Storage(pid[1], pid[2], pid[4])

    def load_build(self) -> None:
        """Drops the one attribute that PyTorch gives a state dict: the versions of its modules."""
        state, target = self.stack.pop(), self.stack[-1]
        known = type(state) is type(target) is _Dict and not state.keys() - {"_metadata"}
        _require(known, "sets attributes, as no state dict does")

    dispatch[ord(pickle.EMPTY_DICT)] = lambda self: self.stack.append(_Dict())
    dispatch[ord(pickle.BUILD)] = load_build


def _flatten(tree: Any, limits: Limits) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of nested dictionaries with the keys above them, each dictionary once."""
    _require(type(tree) is _Dict, "holds no dictionary of tensors")
    waiting: list[tuple[tuple[str, ...], _Dict]] = [((), tree)]
    seen, names = set(), set()
    while waiting:
        above, branch = waiting.pop()
        _require(id(branch) not in seen, "has one dictionary in two places")
        _require(len(above) < limits.depth, "has too many dictionaries inside one another")
        seen.add(id(branch))
        for key, value in branch.items():
            name = ".".join((*above, key))
            _require(name not in names, f"has the name '{printable(name)}' twice")
            _require(len(names) < limits.entries, f"has more than {limits.entries} names")
            names.add(name)
            if type(value) is _Dict:
                waiting.append(((*above, key), value))
            else:
                _require(type(value) is Tensor, f"has '{printable(name)}', which is not a tensor")
                yield name, value


def _read_storage(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], storage: Storage
) -> np.ndarray:
    """Returns all numbers of a storage, [count]."""
    dtype, info = np.dtype(DTYPES[storage.kind]), entries.get(f"data/{storage.key}")
    if info is None:
        raise FormatError(f"has no entry data/{printable(storage.key)}")
    size, name = storage.count * dtype.itemsize, info.filename.partition("/")[2]
    _require(info.file_size == size, f"{name} has {info.file_size} bytes, not {printable(size)}")
    raw = np.empty(size, np.uint8)
    with archive.open(info) as entry:  # checks the CRC at the end
        for start in range(0, size, CHUNK):
            chunk = entry.read(min(CHUNK, size - start))
            _require(len(chunk) == len(raw[start : start + CHUNK]), "is cut off")
            raw[start : start + CHUNK] = np.frombuffer(chunk, np.uint8)
    numbers = raw.view(dtype)
    if storage.kind == "BFloat16Storage":  # the upper half of a float32
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    numbers = numbers != 0 if storage.kind == "BoolStorage" else numbers
    numbers.flags.writeable = False
    return numbers
