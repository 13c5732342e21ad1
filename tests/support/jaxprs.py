"""Counts operations and loops of a traced program (a jaxpr)."""

import jax


def loops(jaxpr):
    """Yields the body of every scan, at any depth."""
    for equation in jaxpr.eqns:
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"),
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                if equation.primitive.name == "scan":
                    yield inner
                yield from loops(inner)


def convolutions(jaxpr):
    """Returns the number of convolutions, those of inner programs included."""
    total = 0
    for equation in jaxpr.eqns:
        total += equation.primitive.name == "conv_general_dilated"
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"),
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                total += convolutions(inner)
    return total
