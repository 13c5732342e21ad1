"""PyTorch weight files: what is read, what is refused, and that nothing in them ever runs."""

import io
import math
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import types
import warnings
import zipfile
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
import torch_archives as t
from torch_archives import archive, name, number, numbers, program, state, storage, tensor, text

from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.torch_weights.pt_reader import Limits, read_tensors
from segdiff_jax.torch_weights.pt_writer import write_tensors

WATCHED = ("os.", "exec", "compile", "import", "subprocess", "pickle", "shutil", "socket", "ctypes")


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A list to which Python's audit adds the watched events, unless it is empty."""
    seen = []
    path = tmp_path_factory.mktemp("first") / "good.pt"
    path.write_bytes(archive())
    read_tensors(path)  # imports what reading needs, such as the codec of zip's names

    def hook(event, arguments):
        if seen and event.startswith(WATCHED):
            seen.append((event, str(arguments)[:200]))

    sys.addaudithook(hook)  # cannot be removed, hence armed only while needed
    return seen


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.pt"

    def write(data):
        path.write_bytes(data)
        return path

    return write


class Reduced:
    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def touch(canary):
    return f"touch {canary}"


def in_a_dictionary(value, protocol=2):
    return pickle.dumps({"w": value}, protocol)


# pickles that would write the canary if they were run: canary -> pickle
DEADLY = {
    "os.system": lambda c: in_a_dictionary(Reduced(os.system, touch(c))),
    "eval": lambda c: in_a_dictionary(Reduced(eval, f"open({str(c)!r}, 'w').close()")),
    "exec": lambda c: in_a_dictionary(Reduced(exec, f"open({str(c)!r}, 'w').close()")),
    "subprocess": lambda c: in_a_dictionary(Reduced(subprocess.check_call, ["touch", str(c)])),
    "protocol 4": lambda c: in_a_dictionary(Reduced(os.system, touch(c)), 4),
    "protocol 0": lambda c: in_a_dictionary(Reduced(os.system, touch(c)), 0),
    "an instance": lambda c: f"(S'{touch(c)}'\nios\nsystem\n.".encode(),
    "an object": lambda c: program(b"(" + name("os", "system") + text(touch(c)) + b"o"),
    "a chain of getattr": lambda c: program(
        name("builtins", "getattr")
        + t.several(name("builtins", "__import__") + t.several(text("os")) + b"R", text("system"))
        + b"R"
        + t.several(text(touch(c)))
        + b"R"
    ),
    "hidden in the key": lambda c: program(
        t.EMPTY + name("os", "system") + t.several(text(touch(c))) + b"R" + number(0) + b"s"
    ),
    "after a good state": lambda c: program(
        state(("w", number(1))) + name("os", "system") + t.several(text(touch(c))) + b"R0"
    ),
    "a state with __setstate__": lambda c: program(
        t.EMPTY
        + b"}"
        + text("__setstate__")
        + name("os", "system")
        + b"sb"  # the attribute is set ...
        + text(touch(c))
        + b"b"  # ... and called
    ),
}

BAD_TENSORS = {  # tensor -> part of the message
    "an offset below 0": (tensor(offset=-1), "shape, strides or offset are not counts"),
    "a stride below 0": (tensor(strides=(-2, 1)), "shape, strides or offset are not counts"),
    "a side below 0": (tensor(shape=(-2, -2)), "shape, strides or offset are not counts"),
    "an offset too large": (tensor(offset=1), "reaches beyond its storage"),
    "a stride too large": (tensor(strides=(4, 1)), "reaches beyond its storage"),
    "a stride of 2^400": (tensor(strides=(2**400, 1)), "shape, strides or offset are not counts"),
    "a side too large": (tensor(shape=(3, 2)), "reaches beyond its storage"),
    "one number 2^60 times": (tensor(shape=(2**30, 2**30), strides=(0, 0)), "larger than its stor"),
    "windows that overlap": (tensor(shape=(3, 2), strides=(1, 1)), "larger than its storage"),
    "nothing of 2^60": (tensor(shape=(0, 2**60)), "a tensor without numbers"),
    "too few strides": (tensor(strides=(1,)), "a tensor of no shape"),
    "33 sides": (tensor(shape=(1,) * 33, strides=(1,) * 33), "a tensor of no shape"),
    "a side that is true": (
        tensor(shape=t.several(b"\x88", b"\x88")),
        "shape, strides or offset are not counts",
    ),
    "a shape that is text": (tensor(shape=text("22")), "a tensor of no shape"),
    "hooks": (tensor(hooks=b"}" + text("h") + b"Ns"), "a tensor with hooks"),
    "a storage that is a number": (tensor(of=number(3)), "a tensor without a storage"),
    "a storage larger than the file": (
        tensor(of=storage(count=10**9)),
        "has 16 bytes, not 4000000",
    ),
    "a storage of 2^70 numbers": (tensor(of=storage(count=2**70)), "has 16 bytes, not 47223664828"),
    "a storage of -4 numbers": (tensor(of=storage(count=-4)), "reaches beyond its storage"),
    "a storage that is not there": (tensor(of=storage(key="7")), "has no entry data/7"),
    "a storage by path": (
        tensor(of=storage(key="../../etc/passwd")),
        "no entry data/../../etc/passwd",
    ),
    "a storage by absolute path": (
        tensor(of=storage(key="/etc/passwd")),
        "no entry data//etc/passwd",
    ),
    "a storage of another kind": (
        tensor(of=storage("UntypedStorage")),
        "asks for 'torch.UntypedStorage', which",
    ),
    "a storage of no kind": (
        tensor(of=t.several(text("storage"), text("x"), text("0"), text("cpu"), number(4)) + b"Q"),
        "not a storage of numbers",
    ),
    "a module for a storage": (tensor(of=storage(word="module")), "not a storage of numbers"),
    "a storage that is text": (tensor(of=text("0") + b"Q"), "not a storage of numbers"),
    "a storage as it was in protocol 0": (tensor(of=b"P0\n"), "the instruction 'P', which"),
    "a function of PyTorch's": (name("torch", "load") + t.several(text("/x")) + b"R", "torch.load"),
    "a kind that is called": (
        name("torch", "FloatStorage") + numbers(4) + b"R",
        "object is not callable",
    ),
    "a dictionary of a list": (t.ORDERED_DICT + numbers(1) + b"R", "takes 0 positional arguments"),
    "a class of Python's": (
        name("torch.nn.modules.conv", "Conv2d") + b")\x81",
        "modules.conv.Conv",
    ),
    "no tensor": (number(3), "has 'w', which is not a tensor"),
    "a list": (b"]", "the instruction ']'"),
}


def tower(floors):
    """Dictionaries in dictionaries."""
    return b"".join(t.EMPTY + text("a") for _ in range(floors)) + t.EMPTY + b"s" * floors


BAD_PICKLES = {
    "a dictionary in itself": (
        program(t.EMPTY + b"q\0" + text("a") + b"h\0s"),
        "one dictionary in two places",
    ),
    "the same dictionary twice": (
        program(
            t.EMPTY + text("a") + t.EMPTY + b"q\1" + b"s" + text("b") + b"h\1s",
        ),
        "one dictionary in two places",
    ),
    "10 dictionaries deep": (program(tower(10)), "too many dictionaries inside"),
    "100000 dictionaries deep": (program(tower(100_000)), "too many dictionaries inside"),
    "100000 tuples deep": (
        program(t.EMPTY + text("a") + b")" + b"\x85" * 10**5 + b"s"),
        "not a tensor",
    ),
    "tuples that double 10000 times": (
        program(t.EMPTY + text("a") + b")" + b"q\0h\0\x86" * 10_000 + b"s"),
        "not a tensor",
    ),
    "a key of tuples that double": (
        program(t.EMPTY + b")" + b"q\0h\0\x86" * 1000 + number(1) + b"s"),
        "a key that is not text",
    ),
    "a memory of five million": (program(b"}" + b"q\0" * 2_500_000), "data.pkl is too long"),
    "a memory with a gap": (
        program(b"}r\xff\xff\xff\xffj\xfe\xff\xff\xff0"),
        "Memo value not found",
    ),
    "a number of a million digits": (program(b"I" + b"9" * 10**6 + b"\n"), "the instruction 'I'"),
    "a long number": (program(b"\x8b" + struct.pack("<i", 2**31 - 1)), r"the instruction '\x8b'"),
    "text longer than the file": (program(b"X\xff\xff\xff\x7fabc"), "it is cut off"),
    "text that is not UTF-8": (program(b"X\2\0\0\0\xff\xff"), "invalid start byte"),
    "an extension of copyreg": (program(b"\x82\1"), r"the instruction '\x82'"),
    "a frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"}.", r"the instruction '\x95'"),
    "an unknown instruction": (program(b"\xff"), "the instruction 'ÿ'"),
    "nothing at all": (b"", "it is cut off"),
    "no end": (t.GOOD[:-1], "it is cut off"),
    "half of it": (t.GOOD[: len(t.GOOD) // 2], "is not a state dict"),
    "something after the end": (t.GOOD + b".", "goes on after its end"),
    "an empty stack": (program(b"R"), "is not a state dict: "),
    "no mark": (program(b"t"), "is not a state dict: "),
    "a value from below a mark": (program(b"}(\x85"), "is not a state dict: "),
    "two results": (program(t.EMPTY + t.EMPTY), "left over"),
    "a key without a value": (
        program(t.EMPTY + b"(" + text("a") + b"u"),
        "list index out of range",
    ),
    "a key twice": (program(state(("w", tensor()), ("w", tensor()))), "the key 'w' twice"),
    "a name twice": (
        program(state(("a.w", tensor()), ("a", state(("w", tensor()))))),
        "has the name 'a.w' twice",
    ),
    "numbers for keys, as of an optimizer": (
        program(t.EMPTY + number(0) + tensor() + b"s"),
        "a key that is not text",
    ),
    "a tensor alone": (program(tensor()), "no dictionary of tensors"),
    "items of a tensor": (
        program(tensor() + text("a") + number(1) + b"s"),
        "does not support item assignment",
    ),
    "attributes of a tensor": (program(tensor() + b"}b"), "sets attributes"),
    "attributes of a dictionary": (
        program(t.EMPTY + b"}" + text("__class__") + number(1) + b"sb"),
        "sets attributes",
    ),
    "a parameter of a number": (
        program(name("torch._utils", "_rebuild_parameter") + t.several(b"NNN") + b"R"),
        "holds no dictionary of tensors",
    ),
    "one storage of two kinds": (
        program(state(("a", tensor()), ("b", tensor(of=storage("IntStorage"))))),
        "data/0 is of two kinds",
    ),
    "a key of tuples 100000 deep": (
        program(b"})" + b"\x85" * 10**5 + b"Ns"),
        "a key that is not text",
    ),
    "a key of two million letters": (program(state(("k" * 2_000_000, tensor()))), "characters"),
    "an instance of what may be called": (
        program(t.ORDERED_DICT + b")\x81"),
        r"the instruction '\x81'",
    ),
    "an object of what may be called": (program(b"(" + t.ORDERED_DICT + b"o"), "instruction 'o'"),
    "default arguments of what may be called": (
        program(t.ORDERED_DICT + b"N}" + text("__defaults__") + b")s\x86b)R"),
        "sets attributes",
    ),
    "attributes of a storage's kind": (
        program(name("torch", "FloatStorage") + b"}" + text("newbyteorder") + b"Nsb"),
        "sets attributes",
    ),
    "arguments that are a storage": (
        program(name("torch._utils", "_rebuild_tensor_v2") + storage() + b"R"),
        "required positional arguments",
    ),
    "colours for a terminal": (program(state(("\x1b[2J\n", number(1)))), r"'\x1b[2J\n'"),
}


def overlapping():
    """A zip with 4000 numbers that are there once and belong to two entries."""
    data = bytearray(archive(entries=[("data/0", bytes(4000)), ("data/1", t.FOUR)]))
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        first = z.getinfo("archive/data/0").header_offset
    place = data.rindex(b"archive/data/1") - 46  # its entry in the directory
    data[place + 20 : place + 28] = struct.pack("<II", 4000, 4000)
    data[place + 42 : place + 46] = struct.pack("<I", first)
    return bytes(data)


def with_bytes(data, old, new):
    assert data.count(old) >= 1 and len(old) == len(new)
    return data.replace(old, new)


def flagged_as_encrypted():
    data = bytearray(archive())
    place = data.rindex(b"PK\1\2")  # of the last entry in the directory
    data[place + 8] |= 1
    return bytes(data)


def claiming(count):
    """A zip that states this length of its directory."""
    data = bytearray(archive(entries=[("data/0", FILLING)]))
    place = data.rindex(b"PK\5\6")
    data[place + 12 : place + 16] = struct.pack("<I", count)
    return bytes(data)


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"))
    return buffer.getvalue()


def twice():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return archive(entries=[("data/0", t.FOUR), ("data/0", t.FOUR)])


FILLING = bytes(20_000_000)
LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + b"rest"
BAD_FILES = {
    "no bytes": (lambda: b"", "is not a file of torch.save"),
    "text": (lambda: b"import os\n", "is not a file of torch.save"),
    "a pickle without a zip": (lambda: pickle.dumps({"w": 1}, 2), "is not a file of torch.save"),
    "the format before 1.6": (lambda: LEGACY, "the format before PyTorch 1.6; save it again"),
    "a tar": (tar, "is not a file of torch.save"),
    "a zip behind something else": (
        lambda: b"#!/bin/sh\n" + archive(),
        "is not a file of torch.save",
    ),
    "a zip of something else": (
        lambda: archive(folder="x/y"),
        "is a zip file, but not of torch.sa",
    ),
    "an empty zip": (lambda: b"PK\5\6" + bytes(18), "is not a file of torch.save"),
    "half a zip": (lambda: archive()[:300], "is damaged"),
    "a zip without its end": (lambda: archive()[:-10], "is damaged"),
    "a changed number": (
        lambda: with_bytes(archive(), t.FOUR, t.FOUR[::-1]),
        "is damaged: Bad CRC",
    ),
    "a zip bomb": (
        lambda: archive(
            entries=[("data/0", FILLING)], compression=zipfile.ZIP_DEFLATED, compresslevel=9
        ),
        "compressed or encrypted",
    ),
    "an encrypted entry": (flagged_as_encrypted, "compressed or encrypted"),
    "entries on top of each other": (overlapping, "claims more bytes than it has"),
    "a directory of 18 MB": (lambda: claiming(18_000_000), "an enormous list of contents"),
    "30000 entries": (
        lambda: archive(entries=[(f"data/{i}", b"") for i in range(30_000)]),
        "has 30002 entries, more than 20000",
    ),
    "an absolute path": (
        lambda: archive(entries=[("!/etc/passwd", b"x")]),
        "the entry '/etc/passwd",
    ),
    "a path upwards": (
        lambda: archive(entries=[("../../x", b"x")]),
        "has the entry 'archive/../..",
    ),
    "a path of Windows": (lambda: archive(entries=[("!a/C:\\x", b"x")]), "has the entry"),
    "a second folder": (lambda: archive(entries=[("!other/x", b"x")]), "not of torch.save"),
    "a file beside the folder": (
        lambda: archive(entries=[("!x", b"x")]),
        "has the entry 'x', which torch.save never writes",
    ),
    "an entry twice": (twice, "has the entry 'archive/data/0' twice"),
    "a big-endian machine's": (
        lambda: archive(entries=[("data/0", t.FOUR), ("byteorder", b"big")]),
        "not of a little-endian machine",
    ),
}


def refused(path, audited, canary):
    """Returns the one-line message with which a file is refused, without side effects."""
    audited.append("armed")
    try:
        with pytest.raises(UserError) as caught:
            read_tensors(path)
    finally:
        seen = audited[1:]
        audited.clear()
    assert not canary.exists() and not seen
    message = str(caught.value)
    assert caught.value.code == BAD_DATA
    assert message.startswith(f"{path}: ") and message.isprintable() and len(message) < 400
    return message


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.mark.parametrize("kind", DEADLY)
def test_a_file_that_wants_to_run_something_is_refused_and_does_not(kind, file, audited, canary):
    refused(file(archive(DEADLY[kind](canary))), audited, canary)


@pytest.mark.parametrize(
    "kind", sorted(set(DEADLY) - {"a state with __setstate__", "hidden in the key"})
)
def test_the_same_file_would_have_run_it_in_python(kind, canary):
    pickle.loads(DEADLY[kind](canary))
    assert canary.exists()


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_a_tensor_that_no_network_has_is_refused(kind, file, audited, canary):
    body, said = BAD_TENSORS[kind]
    assert said in refused(file(archive(program(state(("w", body))))), audited, canary)


@pytest.mark.parametrize("kind", BAD_PICKLES)
def test_a_pickle_that_is_not_a_state_dict_is_refused(kind, file, audited, canary):
    pickled, said = BAD_PICKLES[kind]
    assert said in refused(file(archive(pickled)), audited, canary)


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_torch_did_not_write_is_refused(kind, file, audited, canary):
    data, said = BAD_FILES[kind]
    assert said in refused(file(data()), audited, canary)


def test_a_path_that_is_not_a_file_is_refused(tmp_path, audited, canary):
    assert "no such file" in refused(tmp_path, audited, canary)
    assert "no such file" in refused(tmp_path / "nothing.pt", audited, canary)


def test_a_file_above_a_limit_is_refused(file):
    path = file(archive())
    for limits in (Limits(file_bytes=100), Limits(pickle_bytes=100), Limits(entries=1)):
        with pytest.raises(UserError, match="more than|too long"):
            read_tensors(path, limits)
    assert set(read_tensors(path)) == {"w"}


def test_more_names_than_the_limit_of_entries_are_refused(file):
    """Each name repeats the keys above it, so that a short pickle may ask for many long names."""
    path = file(archive(program(state(*((f"{i}", tensor()) for i in range(9))))))
    assert len(read_tensors(path, Limits(entries=9))) == 9
    with pytest.raises(UserError, match=r"data.pkl has more than 8 names"):
        read_tensors(path, Limits(entries=8))


def test_reading_hostile_files_changes_nothing_for_the_next_file(file):
    for pickled, _ in BAD_PICKLES.values():
        with pytest.raises(UserError):
            read_tensors(file(archive(pickled)))
    np.testing.assert_array_equal(read_tensors(file(archive()))["w"], [[0, 1], [2, 3]])


@pytest.mark.parametrize("change", range(60))
def test_any_damage_ends_in_one_line_or_in_arrays(change, file, audited, canary):
    rng = np.random.default_rng(change)
    pickled = bytearray(t.GOOD)
    for place in rng.integers(2, len(pickled), 1 + change % 3):
        pickled[place] = rng.integers(256)
    try:
        found = read_tensors(file(archive(bytes(pickled))))
    except UserError as error:
        assert error.code == BAD_DATA and str(error).isprintable()
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())


def test_a_good_file_is_read(file):
    rows = tensor(offset=1, shape=(3,), strides=(1,))
    column = tensor(shape=(2, 2), strides=(1, 2))
    parameter = (
        name("torch._utils", "_rebuild_parameter") + t.several(rows, b"\x88", t.EMPTY) + b"R"
    )
    found = read_tensors(
        file(archive(program(state(("rows", parameter), ("column", column))), folder="ema_0.9"))
    )
    np.testing.assert_array_equal(found["rows"], np.float32([1, 2, 3]))
    np.testing.assert_array_equal(found["column"], np.float32([[0, 2], [1, 3]]))
    assert not found["rows"].flags.writeable and found["rows"].base is not None


def test_dictionaries_in_dictionaries_are_joined_by_dots(file):
    inner = state(("a.w", tensor()), metadata=False)
    found = read_tensors(file(archive(program(state(("model", inner), ("b", tensor()))))))
    assert set(found) == {"model.a.w", "b"}


class StandIn(NamedTuple):
    """Pickles as a tensor of PyTorch that is the storage `key` does."""

    key: int
    shape: tuple[int, ...]

    def __reduce_ex__(self, protocol):
        strides = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        parts = (Reference(self), 0, self.shape, strides, False, OrderedDict())
        return sys.modules["torch._utils"]._rebuild_tensor_v2, parts


class Reference(NamedTuple):
    tensor: StandIn


class StandInPickler(pickle.Pickler):
    def persistent_id(self, obj):
        if type(obj) is not Reference:
            return None
        kind = sys.modules["torch"].FloatStorage
        return "storage", kind, str(obj.tensor.key), "cpu", math.prod(obj.tensor.shape)


def test_the_pickle_of_a_state_dict_of_300_tensors_is_read(file, monkeypatch):
    """Python's pickler writes what PyTorch's does: notes, wide integers, shared keys, versions."""
    for module, attribute in (("torch", "FloatStorage"), ("torch._utils", "_rebuild_tensor_v2")):
        fake = types.ModuleType(module)
        setattr(fake, attribute, type(attribute, (), {"__module__": module}))
        monkeypatch.setitem(sys.modules, module, fake)
    shapes = [(), (1,), (7,), (2, 3), (70_000,), (300, 2), (2, 3, 1, 5)] * 43
    tensors = {f"m{key % 7}.w{key}": StandIn(key, shape) for key, shape in enumerate(shapes)}
    saved = OrderedDict(tensors)
    saved._metadata = OrderedDict({"": {"version": 1}, "m1": {"version": 2}})
    buffer = io.BytesIO()
    StandInPickler(buffer, 2).dump({"ema": saved, "again": {"w": tensors["m0.w0"]}})
    values = [np.full(shape, key, "<f4") for key, shape in enumerate(shapes)]
    entries = [(f"data/{key}", value.tobytes()) for key, value in enumerate(values)]
    found = read_tensors(file(archive(buffer.getvalue(), entries)))
    assert set(found) == {f"ema.{name}" for name in tensors} | {"again.w"}
    for label, value in zip(tensors, values, strict=True):
        assert tensors[label].shape == value.shape
        np.testing.assert_array_equal(found[f"ema.{label}"], value)


KINDS = {
    "HalfStorage": np.float16([0.5, -2, 65504, 6e-8]),
    "DoubleStorage": np.float64([0.1, -2, 1e300, 5e-324]),
    "LongStorage": np.int64([1, -2, 2**62, 0]),
    "IntStorage": np.int32([1, -2, 2**30, 0]),
    "ShortStorage": np.int16([1, -2, 2**14, 0]),
    "CharStorage": np.int8([1, -2, 127, 0]),
    "ByteStorage": np.uint8([1, 2, 255, 0]),
    "BoolStorage": np.bool_([True, False, True, False]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_storage_class_is_read(kind, file):
    values = KINDS[kind]
    pickled = program(state(("w", tensor(of=storage(kind)))))
    found = read_tensors(file(archive(pickled, [("data/0", values.tobytes())])))["w"]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values.reshape(2, 2))


def test_bfloat16_becomes_float32(file):
    halves = np.array([0x3F80, 0xC000, 0x7F80, 0x0001], "<u2")  # 1, -2, inf, the smallest there is
    pickled = program(state(("w", tensor(of=storage("BFloat16Storage")))))
    found = read_tensors(file(archive(pickled, [("data/0", halves.tobytes())])))["w"]
    np.testing.assert_array_equal(found.ravel(), np.float32([1, -2, np.inf, 2.0**-133]))


WEIGHTS = {
    "a.weight": np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32),
    "a.b.c.bias": np.float32([1.5]),
    "scalar": np.array(3, np.float32),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "ünïcode": np.ones((1, 1, 300), np.float32),
}


def same(found, wanted):
    assert list(found) == list(wanted)
    for key, array in wanted.items():
        assert found[key].dtype == array.dtype and found[key].shape == array.shape
        assert found[key].tobytes() == array.tobytes()


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    write_tensors(tmp_path / "w.pt", WEIGHTS)
    same(read_tensors(tmp_path / "w.pt"), WEIGHTS)
    write_tensors(tmp_path / "again.pt", WEIGHTS)
    assert (tmp_path / "w.pt").read_bytes() == (tmp_path / "again.pt").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.pt", "w.pt"]


def test_an_existing_file_is_never_overwritten(tmp_path):
    path = tmp_path / "w.pt"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_tensors(path, WEIGHTS)
    assert path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_only_float32_is_written(tmp_path):
    for array in (np.float64([1]), np.zeros((0, 2), np.float32)):
        with pytest.raises(ValueError, match="w is .* it must be float32"):
            write_tensors(tmp_path / "w.pt", {"w": array})


@pytest.fixture(scope="module")
def torch():
    """The real library, where it is installed."""
    return pytest.importorskip("torch")


def test_pytorch_reads_what_is_written(torch, tmp_path):
    write_tensors(tmp_path / "w.pt", WEIGHTS)
    for options in ({}, {"mmap": True}):
        found = torch.load(tmp_path / "w.pt", weights_only=True, **options)
        same({key: tensor.numpy() for key, tensor in found.items()}, WEIGHTS)
        assert type(found).__name__ == "OrderedDict"


def test_a_module_of_pytorch_loads_what_is_written(torch, tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4))
    wanted = {k: v.numpy() + 1 for k, v in module.state_dict().items()}
    write_tensors(tmp_path / "w.pt", wanted)
    module.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    same({k: v.numpy() for k, v in module.state_dict().items()}, wanted)


@pytest.mark.parametrize("kind", ["state dict", "parameters", "views of one vector", "nested"])
def test_what_pytorch_writes_is_read(kind, torch, tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(5, 7))
    saved = module.state_dict()
    if kind == "parameters":
        saved.update(module.named_parameters())
    if kind == "views of one vector":  # the authors' master weights are
        flat, start = torch.cat([v.flatten() for v in saved.values()]), 0
        for key, value in saved.items():
            saved[key] = flat[start : start + value.numel()].view_as(value)
            start += value.numel()
    whole = {"model": {"ema": saved}} if kind == "nested" else saved
    torch.save(whole, tmp_path / "ema_0.9999_060000.pt")
    found = read_tensors(tmp_path / "ema_0.9999_060000.pt")
    wanted = {k: v.detach().numpy() for k, v in module.state_dict().items()}
    prefix = "model.ema." if kind == "nested" else ""
    same(found, {prefix + key: array for key, array in wanted.items()})


@pytest.mark.parametrize(
    "kind", ["float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool"]
)
def test_every_dtype_of_pytorch_is_read(kind, torch, tmp_path):
    values = (torch.arange(12).reshape(3, 4) % 5 - int(kind != "uint8")).to(getattr(torch, kind))
    torch.save({"w": values.t(), "part": values[1:, ::2]}, tmp_path / "w.pt")
    found = read_tensors(tmp_path / "w.pt")
    wide = values.float() if kind == "bfloat16" else values
    np.testing.assert_array_equal(found["w"], wide.t().numpy())
    np.testing.assert_array_equal(found["part"], wide[1:, ::2].numpy())


def test_what_pytorch_wrote_before_version_1_6_is_refused_with_advice(torch, tmp_path):
    module = torch.nn.Linear(2, 2)
    torch.save(module.state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="save it again with a newer one"):
        read_tensors(tmp_path / "w.pt")


def test_a_whole_module_and_an_optimizer_are_refused(torch, tmp_path):
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    for saved in (module, optimizer.state_dict(), [1], torch.ones(2)):
        torch.save(saved, tmp_path / "w.pt")
        with pytest.raises(UserError, match="data.pkl "):
            read_tensors(tmp_path / "w.pt")
