"""Defines a small fault that is put into a copy of the code, and the tests that must notice it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Mutation(NamedTuple):
    """Describes a fault.

    Attributes:
      fault: what is wrong with the mutated code, in words.
      file: under segdiff_jax/, without ".py".
      old: text that stands once in the file.
      new: what takes its place.
      tests: paths under tests/, separated by spaces, that must fail.
    """

    fault: str
    file: str
    old: str
    new: str
    tests: str


def listed(by_file: Mapping[str, Sequence[tuple[str, str, str, str]]]) -> list[Mutation]:
    """Returns the faults of files, each (fault, old, new, tests)."""
    return [
        Mutation(fault, file, old, new, tests)
        for file, faults in by_file.items()
        for fault, old, new, tests in faults
    ]
