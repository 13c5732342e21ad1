"""How each parameter starts, said by the module that makes it and drawn for all at once.

Drawn one by one, as linen does, hundreds of arrays make a program of hundreds of random generators,
which takes a CPU most of a minute to compile. So a module leaves beside each parameter, in the
collection `COLLECTION`, what it starts as, and `draw` makes all of them from one generator.

What stands in that collection has no arrays: to JAX it is part of the structure of a tree. Each is
also an initializer of linen, so that `model.init` gives weights of the same distributions.
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
    """What a parameter starts as: values made of numbers from U(-1, 1)."""

    def count(self, shape: Shape) -> int:
        """Returns how many numbers an array takes."""
        return math.prod(shape)

    @abstractmethod
    def values(self, numbers: jax.Array, shape: Shape) -> jax.Array:
        """Returns the array, of the dtype of the numbers [count(shape)]."""

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        """Returns an array of its own draw, as an initializer of linen does."""
        return self.values(_numbers(key, self.count(shape), dtype), shape)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Uniform(Initial):
    """U(-bound, bound)."""

    bound: float

    def values(self, numbers: jax.Array, shape: Shape) -> jax.Array:
        """Returns the numbers, scaled."""
        return (self.bound * numbers).reshape(shape)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Normal(Initial):
    """N(0, std^2)."""

    std: float

    def values(self, numbers: jax.Array, shape: Shape) -> jax.Array:
        """Returns the quantiles of the numbers, scaled."""
        least = np.nextafter(np.array(-1, numbers.dtype), np.array(0, numbers.dtype))
        inside = jnp.maximum(numbers, least)  # the quantile of -1 itself is infinite
        return (self.std * math.sqrt(2) * jax.lax.erf_inv(inside)).reshape(shape)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Constant(Initial):
    """The same value everywhere."""

    value: float

    def count(self, shape: Shape) -> int:
        """Returns 0: nothing is drawn."""
        return 0

    def values(self, numbers: jax.Array, shape: Shape) -> jax.Array:
        """Returns the value, everywhere."""
        return jnp.full(shape, self.value, numbers.dtype)


def by_inputs(inputs: int, zero: bool = False) -> Initial:
    """Returns U(-1/sqrt(inputs), 1/sqrt(inputs)), or zero.

    It is PyTorch's default for kernels and biases, which the authors train from.
    """
    return Constant(0.0) if zero else Uniform(1 / math.sqrt(inputs))


def parameter(module: nn.Module, name: str, initial: Initial, shape: Shape) -> jax.Array:
    """Returns a parameter of a module, float32, and leaves beside it what it starts as.

    Without a key only its shape is right, which is what `draw` asks for.
    """
    if module.is_initializing():
        module.put_variable(COLLECTION, name, initial)
        if not module.has_rng("params"):
            module.put_variable("params", name, jnp.zeros(shape))
    found: Any = module.get_variable("params", name)
    if found is not None and found.shape == shape:
        return found  # linen would trace the initializer to learn its shape
    return module.param(name, initial, shape)


def draw(init: Callable[[Any], Variables], key: jax.Array) -> dict[str, Any]:
    """Returns fresh parameters, cut out of one draw in the order of their names.

    Args:
      init: key, or {} for the shapes alone -> the variables of a network. It is run only for
        parameters that were not made by `parameter`, which get the values that it gives them.
      key: of all that is drawn.
    """
    try:
        variables = jax.eval_shape(lambda: init({}))
    except InvalidRngError:  # of linen's own parameters, which are drawn where they are made
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
    """Returns what nested dictionaries hold, by path, in the order of jax.tree."""
    return dict(sorted(cast(dict[tuple[str, ...], Any], flatten_dict(tree)).items()))
