"""SegDiff (Amit et al., arXiv 2112.00390) in JAX: image segmentation by diffusion.

    model = segdiff_jax.load("runs/monuseg-small")
    prediction = model.predict(image)  # .probability, .mask, .uncertainty, .generations

`segdiff_jax.api` documents `load` and the model it returns.
"""

from typing import TYPE_CHECKING, Any

from segdiff_jax.runtime import startup

__version__ = "0.1.0"

startup.end_on_signals()  # of a program, while it is still being imported

if TYPE_CHECKING:
    from segdiff_jax.api import load as load


def __getattr__(name: str) -> Any:
    """Imports jax on first use of `load`, so that the command line reports mistakes before."""
    if name == "load":
        from segdiff_jax.api import load as load

        return load
    raise AttributeError(f"module 'segdiff_jax' has no attribute {name!r}")
