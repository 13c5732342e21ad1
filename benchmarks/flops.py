"""Counts the arithmetic of a program from its shapes alone; nothing is computed or compiled."""

import math
from collections.abc import Iterator

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def product_flops(jaxpr: Jaxpr) -> float:
    """Returns the operations of all matrix products and convolutions, 2 for each multiply-add.

    Products with the zeros that pad a convolution count too, as is usual; norms, activations and
    sums do not.

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
    """Yields the programs that an equation runs."""
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, Jaxpr):
                yield one


def _convolution(equation: JaxprEqn) -> float:
    out, kernel = equation.outvars[0].aval.shape, equation.invars[1].aval.shape
    numbers = equation.params["dimension_numbers"]
    return 2.0 * math.prod(out) * math.prod(kernel) / kernel[numbers.rhs_spec[0]]


def _dot(equation: JaxprEqn) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
