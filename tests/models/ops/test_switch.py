"""Checks that one switch turns all fast forms off, and that they compute what the references do."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_variants import perturbed
from tiny_config import tiny

from segdiff_jax.factory import networks
from segdiff_jax.models.ops.switch import ENVIRONMENT, reference_ops, use_reference

FAST = ("custom_vjp_call", "optimization_barrier", "winograd", "group_norm_fused")


def small_network():
    """Returns a loss and its parameters; maps are large enough for the forms of a CPU."""
    config = tiny()
    config.model.channels, config.model.norm_groups = 32, 8
    config.model.multipliers, config.model.attention_factors = (1, 2), (2,)
    config.model.rrdb_features, config.model.rrdb_growth = 32, 16
    model = networks.model(config)
    keys = jax.random.split(jax.random.key(0), 3)
    image, x_t = (jax.random.normal(keys[i], (1, 32, 32, c)) for i, c in ((0, 3), (1, 1)))
    t = jnp.array([7])
    shapes = jax.eval_shape(model.init, keys[2], image, x_t, t)["params"]
    params = perturbed(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes))

    def loss(params):
        return jnp.square(model.apply({"params": params}, image, x_t, t)).mean()

    return loss, params


def program(function, *operands):
    """Returns the text of what is traced now: a new function, so that no cache is read."""
    return str(jax.make_jaxpr(lambda *of: function(*of))(*operands))


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_the_switch_turns_every_fast_form_off_on_every_backend(backend, monkeypatch):
    loss, params = small_network()
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    with reference_ops(False):
        fast = program(loss, params) + program(jax.grad(loss), params)
    with reference_ops():
        reference = program(loss, params) + program(jax.grad(loss), params)
    names = FAST if backend == "cpu" else [name for name in FAST if name != "winograd"]
    assert all(name in fast for name in names)
    assert not any(name in reference for name in FAST)


def test_loss_and_gradients_by_the_references_are_those_of_the_fast_forms():
    loss, params = small_network()
    step = jax.jit(jax.value_and_grad(loss))  # one function: the switch makes jax trace it again
    with reference_ops(False):
        fast, fast_grads = step(params)
    with reference_ops():
        value, grads = step(params)
    np.testing.assert_allclose(fast, value, rtol=2e-6)
    pairs = list(zip(*map(jax.tree.leaves, (fast_grads, grads)), strict=True))
    assert any(np.any(one != other) for one, other in pairs)
    # Winograd's rounding is 1e-6 of the largest value, that of the others less; some ten layers
    # follow one another, forward and backward: 2e-5 if all add up
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * np.abs(other).max())


def test_the_switch_ends_with_its_context_and_may_be_nested():
    before = use_reference()
    with reference_ops():
        assert use_reference()
        with reference_ops(False):
            assert not use_reference()
        assert use_reference()
    assert use_reference() == before
    with pytest.raises(ZeroDivisionError), reference_ops(not before):
        raise ZeroDivisionError
    assert use_reference() == before


@pytest.mark.parametrize("value", ["0", "1"])
def test_the_environment_sets_the_switch_of_a_process(value):
    code = "from segdiff_jax.models.ops.switch import use_reference; print(int(use_reference()))"
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    process = run([sys.executable, "-c", code], env={**os.environ, ENVIRONMENT: value})
    assert process.stdout.strip() == value
