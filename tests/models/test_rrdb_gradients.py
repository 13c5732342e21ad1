"""Gradients of G in its default form on a network that no golden file holds, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from segdiff_jax.models.ops.switch import reference_ops
from segdiff_jax.models.rrdb import RRDBNet

PROMISED = 1e-4  # of the largest value of each tensor, as of the authors' recorded gradients


def gradients(params, image, cotangent, dtype):
    """Returns the gradient of every tensor by its path, of sum(G(image) cotangent)."""
    network = RRDBNet(16, 3, 64, 32, dtype)

    def value(params):
        return jnp.sum(network.apply({"params": params}, image.astype(dtype)) * cotangent)

    params = jax.tree.map(lambda x: x.astype(dtype), params)
    found = jax.jit(jax.grad(value))(params)
    return traverse_util.flatten_dict(jax.tree.map(np.asarray, found), sep="/")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_default_form_keeps_the_promise_of_golden_gradients(seed):
    """The widths of the authors' encoder; all convolutions of a CPU's fast forms are in it."""
    rng = np.random.default_rng(seed)
    image, cotangent = (rng.normal(size=(2, 32, 32, n)).astype(np.float32) for n in (3, 16))
    network = RRDBNet(16, 3, 64, 32, jnp.float32)
    with reference_ops():
        params = network.init(jax.random.key(seed), image)["params"]
    ours = gradients(params, image, cotangent, jnp.float32)
    with reference_ops(), jax.enable_x64(True):
        truth = gradients(params, image, cotangent, jnp.float64)
    worst = max(np.abs(ours[k] - of).max() / np.abs(of).max() for k, of in truth.items())
    assert all(of.dtype == np.float64 for of in truth.values())
    print(f"gradients: at most {worst:.1e} of the largest value of their tensor apart")
    assert 1e-7 < worst < PROMISED
