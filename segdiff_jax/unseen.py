"""A package that is installed and not wanted: what tries to import it gets along without it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unseen(package: str) -> Iterator[None]:
    """Within it, importing a package that is not imported yet is the error of one not installed.

    Only for imports: no other thread should be importing the package meanwhile.

    Args:
      package: the name of the top-level package.
    """
    modules: dict[str, Any] = sys.modules
    if package in modules:
        yield
        return
    modules[package] = None  # as the documentation of `import` has it
    try:
        yield
    finally:
        del modules[package]
