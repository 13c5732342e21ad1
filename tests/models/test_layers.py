"""The parameters of layers, against definitions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamNotFoundError, ScopeParamShapeError

from segdiff_jax.models.init import Constant, parameter


class One(nn.Module):
    """A single parameter."""

    @nn.compact
    def __call__(self):
        return parameter(self, "weight", Constant(2.0), (3,))


def test_a_parameter_is_the_array_that_is_given_and_no_other_will_do():
    module, key = One(), jax.random.key(0)
    given = jnp.arange(3.0)
    assert module.apply({"params": {"weight": given}}) is given
    np.testing.assert_array_equal(module.init(key)["params"]["weight"], [2, 2, 2])
    with pytest.raises(ScopeParamShapeError, match="weight"):
        module.apply({"params": {"weight": jnp.zeros(4)}})
    with pytest.raises(ScopeParamNotFoundError, match="weight"):
        module.apply({"params": {"other": given}})
