"""Defines a small fault that is put into a copy of the code, and the tests that must notice it."""

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
