"""Programs as they would be on a kind of device that this machine does not have."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import jax


@contextmanager
def as_on_a_tpu() -> Iterator[None]:
    """Lets what depends on the kind of device choose what it would choose on a TPU.

    What has been traced is forgotten, before and after.
    """
    jax.clear_caches()
    try:
        with mock.patch.object(jax, "default_backend", lambda: "tpu"):
            yield
    finally:
        jax.clear_caches()
