"""The step is compiled in a thread while there is no state, once, and as it would be without."""

import threading

import jax
import numpy as np
import pytest
from tiny_config import mesh_of, tiny
from training_steps import BATCH

from segdiff_jax import train
from segdiff_jax.factory.training import fresh_state
from segdiff_jax.runtime import distributed
from segdiff_jax.train import CompiledStep
from segdiff_jax.training import flat_state


@pytest.fixture(scope="module")
def run():
    config, mesh = tiny(), mesh_of(2)
    program = fresh_state(config, (16, 16), mesh)
    return config, mesh, program, jax.eval_shape(program)


def made(run, ahead):
    config, mesh, program, shapes = run
    rows = distributed.split_rows(BATCH, mesh)
    through = CompiledStep(config, shapes, flat_state.FlatLayout(shapes.params), mesh)
    if ahead:
        through.compile_ahead(rows)
    state, metrics = through(through.layout.flatten_state_donating(program()), rows)
    return through, jax.tree.map(np.asarray, (state, metrics))


def test_an_update_that_was_compiled_ahead_is_the_same_and_compiled_once(run):
    through, found = made(run, ahead=True)
    assert through._step._cache_size() == 1
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(made(run, False)[1]), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("ahead", [True, False])
def test_the_first_update_compiles_only_what_was_not_compiled_ahead(run, caplog, ahead):
    """The shapes that are known before there is a state are those of the state."""
    with jax.log_compiles():  # of this thread
        made(run, ahead)
    told = [r.getMessage() for r in caplog.records if "Compiling jit(train_step)" in r.getMessage()]
    assert len(told) == (not ahead)


def test_an_error_of_the_compilation_ahead_is_one_of_the_first_update(run, monkeypatch):
    def broken(*_):
        def step(state, rows, key):
            raise ZeroDivisionError(threading.current_thread().name)

        return jax.jit(step)

    monkeypatch.setattr(train, "build_step", broken)
    with pytest.raises(ZeroDivisionError, match="MainThread"):
        made(run, ahead=True)
