"""Initialises all parameters of a network from one PRNG draw.

Linen draws each parameter by itself: hundreds of arrays are a program of hundreds of random number
generators, which a CPU compiles for most of a minute. Here a module stores the distribution of each
parameter beside it, in the collection `COLLECTION`, and `draw` cuts all parameters out of one draw.

The entries of that collection are static pytree nodes without arrays. Each is also an initializer
of linen, so that `model.init` draws from the same distributions.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError
from flax.traverse_util import flatten_dict, unflatten_dict

COLLECTION = "initial"

Shape = tuple[int, ...]
Variables = Mapping[str, Any]  # collections: nested dictionaries


class Initial(ABC):
    """The distribution of a fresh parameter, computed from numbers of U(-1, 1)."""

    def count(self, shape: Shape) -> int:
        """Returns how many numbers an array needs."""
        return math.prod(shape)

    @abstractmethod
    def values(self, numbers: jax.Array, shape: Shape) -> jax.Array:
        """Maps numbers [count(shape)] to an array of this shape and their dtype."""

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        """Draws an array under a key, as an initializer of linen does."""
        return self.values(_numbers(key, self.count(shape), dtype), shape)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Uniform(Initial):
    """The distribution U(-bound, bound)."""

    bound: float

    def values(self, numbers: jax.Array, shape: Shape) -> jax.Array:
        """Scales the numbers."""
        return (self.bound * numbers).reshape(shape)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Normal(Initial):
    """The distribution N(0, std^2)."""

    std: float

    def values(self, numbers: jax.Array, shape: Shape) -> jax.Array:
        """Maps the numbers to quantiles and scales them."""
        least = np.nextafter(np.array(-1, numbers.dtype), np.array(0, numbers.dtype))
        inside = jnp.maximum(numbers, least)  # the quantile of -1 itself is infinite
        return (self.std * math.sqrt(2) * jax.lax.erf_inv(inside)).reshape(shape)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Constant(Initial):
    """A constant value."""

    value: float

    def count(self, shape: Shape) -> int:
        """Returns 0: a constant needs no numbers."""
        return 0

    def values(self, numbers: jax.Array, shape: Shape) -> jax.Array:
        """Fills the array with the value."""
        return jnp.full(shape, self.value, numbers.dtype)


def fan_in_uniform(fan_in: int, zero: bool = False) -> Initial:
    """Returns U(-1/sqrt(fan_in), 1/sqrt(fan_in)), or zero.

    It is PyTorch's default for kernels and biases, which the authors use.
    """
    return Constant(0.0) if zero else Uniform(1 / math.sqrt(fan_in))


def parameter(module: nn.Module, name: str, initial: Initial, shape: Shape) -> jax.Array:
    """Declares a float32 parameter of a module, and stores its distribution beside it.

    Without a key its values are zero: `draw` needs only its shape.
    """
    if module.is_initializing():
        module.put_variable(COLLECTION, name, initial)
        if not module.has_rng("params"):
            module.put_variable("params", name, jnp.zeros(shape))
    value: Any = module.get_variable("params", name)
    if value is not None and value.shape == shape:
        return value  # linen would trace the initializer to compare its shape
    return module.param(name, initial, shape)


def draw(init: Callable[[Any], Variables], key: jax.Array) -> dict[str, Any]:
    """Draws fresh parameters: one array of numbers, cut in the order of their paths.

    Args:
      init: maps a key, or {} for the shapes alone, to the variables of a network. It is run only
        where some parameters were not declared by `parameter`; those keep its values.
      key: of the draw.
    """
    try:
        variables = jax.eval_shape(lambda: init({}))
    except InvalidRngError:  # of linen's own parameters, which need a key
        variables = jax.eval_shape(init, key)
    shapes = {path: leaf.shape for path, leaf in _flat(variables["params"]).items()}
    initials = _flat(variables.get(COLLECTION, {}))
    others = _flat(init(key)["params"]) if shapes.keys() - initials.keys() else {}
    ends = np.cumsum([0, *(initial.count(shapes[path]) for path, initial in initials.items())])
    numbers = _numbers(key, int(ends[-1]))
    drawn = {
        path: initial.values(numbers[first:last], shapes[path])
        for (path, initial), (first, last) in zip(initials.items(), pairwise(ends), strict=True)
    }
    return unflatten_dict(others | drawn)


def _numbers(key: jax.Array, count: int, dtype: Any = jnp.float32) -> jax.Array:
    return jax.random.uniform(key, (count,), dtype, -1, 1)


def _flat(tree: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Flattens nested dictionaries to {path: leaf}, in the order of jax.tree."""
    return dict(sorted(cast(dict[tuple[str, ...], Any], flatten_dict(tree)).items()))
