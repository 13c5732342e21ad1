"""Python looks for garbage rarely while a programme starts, and then as usual."""

import gc

import pytest

from segdiff_jax.runtime import startup


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    startup.restore_gc()


def test_starting_makes_looks_rare_and_they_come_back_as_they_were():
    before = gc.get_threshold()
    startup.relax_gc()
    assert gc.get_threshold() == (startup.RARE, *before[1:])
    startup.restore_gc()
    assert gc.get_threshold() == before
