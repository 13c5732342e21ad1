"""The flat training state against the same state as trees."""

from functools import partial

import jax
import numpy as np
import pytest
from tiny_config import mesh_of, tiny
from training_steps import BATCH, mapped_step

from segdiff_jax.factory import training
from segdiff_jax.runtime import distributed
from segdiff_jax.training import flat_state
from segdiff_jax.training.step import init_state


@pytest.fixture(scope="module")
def fresh():
    """A state with other values in every array, on the host."""
    config = tiny()
    make = partial(init_state, training.objective(config), training.optimizer(config), (16, 16))
    shapes = jax.eval_shape(make, jax.random.key(0))
    random = np.random.default_rng(1)

    def filled(x):
        return (0.05 * random.random(x.shape)).astype(x.dtype)

    return jax.tree.map(filled, shapes)


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_state_comes_back_from_its_vectors_as_it_was(fresh):
    layout = flat_state.FlatLayout(fresh.params)
    flat = layout.flatten_state_donating(distributed.replicate(fresh, mesh_of(8)))
    assert_equal(layout.to_host(flat), fresh)


def test_four_vectors_hold_parameters_average_and_moments(fresh):
    layout = flat_state.FlatLayout(fresh.params)
    flat = jax.eval_shape(layout.flatten_state, fresh)
    count = sum(x.size for x in jax.tree.leaves(fresh.params))
    long = [x.shape for x in jax.tree.leaves(flat) if x.shape]
    assert long == [(count,)] * 4  # weights, average, two moments


def test_a_flattened_state_is_deleted_and_its_host_copy_shares_no_memory_with_the_device(fresh):
    layout = flat_state.FlatLayout(fresh.params)
    state = distributed.replicate(fresh, mesh_of(1))
    flat = layout.flatten_state_donating(state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    host = layout.to_host(flat)
    for leaf in jax.tree.leaves(host.params):
        leaf[...] = 7
    assert_equal(layout.to_host(flat), fresh)


@pytest.mark.slow  # golden tests and bit-equal stops hold it too
def test_an_update_of_vectors_is_the_update_of_trees(fresh):
    config, mesh = tiny(), mesh_of(8)
    layout, rows = flat_state.FlatLayout(fresh.params), distributed.split_rows(BATCH, mesh)
    flat = layout.flatten_state_donating(distributed.replicate(fresh, mesh))
    vectors, seen = training.build_step(config, mesh, layout)(flat, rows, jax.random.key(5))
    trees, wanted = mapped_step(mesh)(distributed.replicate(fresh, mesh), rows, jax.random.key(5))
    for name in ("loss", "mse", "grad_norm"):
        assert float(seen[name]) == pytest.approx(float(wanted[name]), rel=1e-5)
    made = layout.to_host(vectors)
    assert jax.tree.structure(made) == jax.tree.structure(trees)
    for before, one, other in zip(*map(jax.tree.leaves, (fresh, made, trees)), strict=True):
        moved = np.abs(np.asarray(other, np.float64) - before).max()
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-3 * moved)
