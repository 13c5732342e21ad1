"""Traces programs for a kind of device that this machine does not have."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import jax


@contextmanager
def as_on_a_tpu() -> Iterator[None]:
    """Makes code that depends on the kind of device behave as on a TPU.

    It clears JAX's caches before and after, because traced programs depend on the device, too.
    """
    jax.clear_caches()
    try:
        with mock.patch.object(jax, "default_backend", lambda: "tpu"):
            yield
    finally:
        jax.clear_caches()
