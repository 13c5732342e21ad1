"""Tells whoever shows progress that a program is being compiled, which may take minutes."""

import contextlib
from collections.abc import Callable, Iterator

Listener = Callable[[str], object]
_listeners: list[Listener] = []


@contextlib.contextmanager
def reported_to(listener: Listener) -> Iterator[None]:
    """Calls the listener with what is compiled, when it begins, and with "" when it has ended."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """Reports the block as the compilation of something, such as "tiles of 64 x 64 pixels"."""
    for listener in _listeners:
        listener(what)
    try:
        yield
    finally:
        for listener in _listeners:
            listener("")
