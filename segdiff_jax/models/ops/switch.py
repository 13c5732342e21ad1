"""Selects the reference or the fast form of every function of this package.

Each function has a reference: a few lines of `jax.lax` and `jax.numpy` that define it, whose
gradients JAX derives. The fast forms compute the same but for rounding. All of them are off where

  SEGDIFF_REFERENCE_OPS=1 python -m segdiff_jax.main ...

is in the environment when this module is imported, or inside

  with reference_ops():
      loss(params, batch)

The form is chosen when a function is traced. The switch is part of the key of JAX's caches, so
that a jitted function is traced again where it has another value.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax

ENVIRONMENT = "SEGDIFF_REFERENCE_OPS"
_reference = jax.make_user_context(os.environ.get(ENVIRONMENT, "0") not in ("", "0"))


def use_reference() -> bool:
    """Returns whether functions traced now are to call their references."""
    return bool(_reference.value)


@contextmanager
def reference_ops(enabled: bool = True) -> Iterator[None]:
    """Selects the references of all functions, or with False their fast forms, in this thread."""
    with _reference(enabled):
        yield
