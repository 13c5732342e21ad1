"""The step is compiled once, in a thread, before there is a state; results are the same."""

import threading

import jax
import numpy as np
import pytest
from tiny_config import mesh_of, tiny
from training_steps import BATCH

from segdiff_jax import train
from segdiff_jax.data.example import Example
from segdiff_jax.factory import training
from segdiff_jax.runtime import distributed


@pytest.fixture(scope="module")
def run():
    config, mesh = tiny(), mesh_of(2)
    return config, mesh, training.jit_replicated(training.init_fn(config, (16, 16)), mesh)


def made(run, ahead):
    config, mesh, fresh = run
    rows = distributed.split_rows(BATCH, mesh)
    example = Example(BATCH.image[0], BATCH.mask[0], "x")
    setup = training.setup(config, [example], mesh)
    step = train.CompiledStep(setup)
    if ahead:
        step.compile_ahead(rows)
    state, metrics = step(setup.layout.flatten_state_donating(fresh()), rows)
    return setup, jax.tree.map(np.asarray, (state, metrics))


def test_an_update_that_was_compiled_ahead_is_the_same_and_compiled_once(run):
    setup, found = made(run, ahead=True)
    assert setup.step._cache_size() == 1
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(made(run, False)[1]), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("ahead", [True, False])
def test_the_first_update_compiles_only_what_was_not_compiled_ahead(run, caplog, ahead):
    """The shapes that are known before there is a state are those of the state."""
    with jax.log_compiles():  # of this thread
        made(run, ahead)
    compiled = [
        r.getMessage() for r in caplog.records if "Compiling jit(train_step)" in r.getMessage()
    ]
    assert len(compiled) == (not ahead)


def test_an_error_of_the_compilation_ahead_is_one_of_the_first_update(run, monkeypatch):
    def broken(*_):
        def step(state, rows, key):
            raise ZeroDivisionError(threading.current_thread().name)

        return jax.jit(step)

    monkeypatch.setattr(training, "build_step", broken)
    with pytest.raises(ZeroDivisionError, match="MainThread"):
        made(run, ahead=True)
