"""What a state dict of PyTorch is made of, as descriptions; nothing here holds a number of it."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

KINDS = {  # PyTorch's storages -> NumPy's little-endian types; of bfloat16 the 16 bits are read
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch BFloat16Storage": "<u2",
    "torch DoubleStorage": "<f8",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "<i1",
    "torch ByteStorage": "<u1",
    "torch BoolStorage": "<u1",
}


MAX_DIMENSIONS = 8


class FormatError(Exception):
    """The file is no state dict; the message goes on after its name."""


class Name(NamedTuple):
    """A name that a pickle mentions; it is never imported."""

    text: str


class Storage(NamedTuple):
    """`count` numbers of a kind, a key of `KINDS`: the entry data/`key` of the file."""

    kind: str
    key: str
    count: int


class Tensor(NamedTuple):
    """A view of a storage; offset, shape and strides count numbers and lie within it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def demand(holds: bool, otherwise: str) -> None:
    """Raises FormatError unless something holds."""
    if not holds:
        raise FormatError(otherwise)


def clip(value: object) -> str:
    """Returns text of a file on one line: short, and without what terminals obey."""
    text = str(value)[:100]
    return text if text.isprintable() else ascii(text)[1:-1]


def name(text: str) -> Name:
    """Returns "MODULE NAME" if it is one of those that state dicts mention."""
    demand(text in CALLS or text in KINDS, f"asks for '{clip(text)}', which no state dict needs")
    return Name(text)


def storage(identity: Any) -> Storage:
    """Returns what a reference of the pickle to something outside of it describes."""
    demand(type(identity) is tuple and len(identity) == 5, "refers to what is no storage")
    parts: list[Any] = list(identity)
    word, kind, key, device, count = parts
    demand(type(word) is str and word == "storage", "refers to what is no storage")
    demand(type(kind) is Name and kind.text in KINDS, "has a storage of no kind")
    demand(type(key) is str and type(device) is str, "has a storage without a name")
    demand(key.isascii() and key.isdigit() and len(key) < 10, f"has the storage '{clip(key)}'")
    demand(are_counts((count,)) and count > 0, "has a storage without numbers")
    return Storage(kind.text, key, count)


def _tensor(*arguments: Any) -> Tensor:
    demand(len(arguments) == 6, "makes a tensor of too few or too many parts")
    source, offset, shape, strides, _, hooks = arguments
    demand(type(source) is Storage, "makes a tensor of what is no storage")
    demand(type(hooks) is dict and not hooks, "has a tensor with hooks")
    demand(type(shape) is tuple and type(strides) is tuple, "has a tensor without a shape")
    demand(len(shape) == len(strides) <= MAX_DIMENSIONS, "has a tensor of odd dimensions")
    demand(are_counts((offset, *shape, *strides)), "has a negative shape, stride or offset")
    demand(0 not in shape, "has a tensor without numbers")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    demand(last < source.count, "has a tensor that reaches beyond its storage")
    demand(math.prod(shape) <= source.count, "has a tensor that is larger than its storage")
    return Tensor(source, offset, shape, strides)


def _parameter(*arguments: Any) -> Tensor:
    demand(len(arguments) == 3 and type(arguments[0]) is Tensor, "has a parameter of no tensor")
    return arguments[0]


def _ordered_dict(*arguments: Any) -> dict[str, Any]:
    demand(not arguments, "makes a dictionary of something")
    return {}


# all that a pickle may "call"
CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}


def are_counts(values: tuple[Any, ...]) -> bool:
    """Whether all are whole numbers from 0 on."""
    return all(type(value) is int and value >= 0 for value in values)
