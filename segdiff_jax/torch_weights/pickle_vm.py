"""The pickle of a state dict, read without running it.

A pickle is a programme for a stack machine that may import and call anything. The machine here
knows the instructions that `torch.save` needs for a state dict and refuses all others. It imports
nothing: a name is compared with a short list. It calls nothing but the functions of `torch_parts`.
All it can make are dictionaries, tuples, numbers, text and descriptions of tensors.
"""

import pickletools
import struct
from collections.abc import Callable
from typing import Any

from segdiff_jax.torch_weights import descriptors
from segdiff_jax.torch_weights.descriptors import CALLS, FormatError, Name, clip, demand


def read(data: bytes) -> Any:
    """Returns what a pickle describes; a dictionary in it may contain itself.

    Raises:
      FormatError: there is anything in it that no state dict needs, or it is cut off.
    """
    machine, end = Machine(), 0
    try:
        for opcode, argument, place in pickletools.genops(data):
            demand(
                opcode.name in INSTRUCTIONS,
                f"has the instruction {opcode.name}, which no state dict needs",
            )
            INSTRUCTIONS[opcode.name](machine, argument)
            end = (place or 0) + 1
    except (ValueError, IndexError, OverflowError, struct.error) as error:
        raise FormatError(f"is no whole pickle ({clip(error)})") from error
    demand(end == len(data), "goes on after its end")
    return machine.pop()


class Machine:
    """The stack, the marks in it, and the memory by number."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Takes the last value above the last mark from the stack."""
        floor = self.marks[-1] if self.marks else 0
        demand(len(self.stack) > floor, "takes more from the stack than there is")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """Takes all values above the last mark, and the mark."""
        demand(bool(self.marks), "takes more from the stack than there is")
        mark = self.marks.pop()
        values, self.stack[mark:] = self.stack[mark:], []
        return values

    def push_tuple(self, length: int) -> None:
        """Makes a tuple of the last values."""
        values = [self.pop() for _ in range(length)]
        self.push(tuple(reversed(values)))

    def note(self, number: int) -> None:
        """Remembers the last value."""
        self.memory[number] = value = self.pop()
        self.push(value)

    def recall(self, number: int) -> None:
        """Puts a value on the stack that was remembered."""
        demand(number in self.memory, "recalls what was never noted")
        self.push(self.memory[number])

    def set_items(self, values: list[Any]) -> None:
        """Puts key, value, key, value, ... into the dictionary below them."""
        demand(len(values) % 2 == 0, "has a key without a value")
        target = self.pop()
        demand(type(target) is dict, "has items of no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            demand(type(key) is str, "has a key that is no text, so it is not of a network")
            demand(key not in target, f"has the key '{clip(key)}' twice")
            target[key] = value
        self.push(target)

    def call(self) -> None:
        """Puts what one of the known functions makes of the last value in place of both."""
        arguments, function = self.pop(), self.pop()
        demand(type(function) is Name and function.text in CALLS, "calls what is no function")
        demand(type(arguments) is tuple, "calls a function with no arguments")
        self.push(CALLS[function.text](*arguments))

    def build(self) -> None:
        """Drops the one attribute that PyTorch gives a state dict: the versions of its modules."""
        state, target = self.pop(), self.pop()
        known = type(state) is dict and not state.keys() - {"_metadata"}
        demand(known and type(target) is dict, "sets attributes, which no state dict has")
        self.push(target)

    def stop(self) -> None:
        """Ends with one value."""
        demand(len(self.stack) == 1 and not self.marks, "ends with something left over")


INSTRUCTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": lambda m, number: demand(number == 2, "is not of PyTorch's protocol, 2"),
    "STOP": lambda m, _: m.stop(),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"), lambda m, value: m.push(value)
    ),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "TUPLE1": lambda m, _: m.push_tuple(1),
    "TUPLE2": lambda m, _: m.push_tuple(2),
    "TUPLE3": lambda m, _: m.push_tuple(3),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    "BINPUT": lambda m, number: m.note(number),
    "LONG_BINPUT": lambda m, number: m.note(number),
    "BINGET": lambda m, number: m.recall(number),
    "LONG_BINGET": lambda m, number: m.recall(number),
    "GLOBAL": lambda m, text: m.push(descriptors.name(text)),
    "BINPERSID": lambda m, _: m.push(descriptors.storage(m.pop())),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}
