"""Counts the arithmetic of a program from its shapes, without computing or compiling."""

import math
from collections.abc import Iterator
from typing import Any, cast

from jax.extend.core import Jaxpr, JaxprEqn


def product_flops(jaxpr: Jaxpr) -> float:
    """Counts the operations of all matrix products and convolutions, 2 for each multiply-add.

    Products with the zero padding of a convolution are included, as is usual; norms, activations
    and sums are not.

    Args:
      jaxpr: of a traced function.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            total += _convolution(equation)
        elif equation.primitive.name == "dot_general":
            total += _dot(equation)
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(map(product_flops, _inner(equation)))
    return total


def _inner(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """Yields the programs that an equation calls."""
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(one, "jaxpr", one)  # of a closed one
            if isinstance(inner, Jaxpr):
                yield inner


def _convolution(equation: JaxprEqn) -> float:
    out, kernel = _shape(equation.outvars[0]), _shape(equation.invars[1])
    numbers = equation.params["dimension_numbers"]
    return 2.0 * math.prod(out) * math.prod(kernel) / kernel[numbers.rhs_spec[0]]


def _dot(equation: JaxprEqn) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = _shape(equation.invars[0])
    return 2.0 * math.prod(_shape(equation.outvars[0])) * math.prod(left[i] for i in contracted)


def _shape(variable: Any) -> tuple[int, ...]:
    return cast(tuple[int, ...], variable.aval.shape)
