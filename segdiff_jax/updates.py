"""What makes updates: the step, mapped over the devices and compiled, its key and its rows."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax import build, checkpoint, flat, parallel
from segdiff_jax.data.batches import batches
from segdiff_jax.data.example import Batch, Example
from segdiff_jax.step import Metrics, TrainState, train_step


class Updates:
    """A state and a batch in, the next state and its metrics out.

    Attributes:
      layout: of the vectors that the state consists of.
    """

    def __init__(
        self, config: ConfigDict, shapes: TrainState, layout: flat.Layout, mesh: Mesh
    ) -> None:
        """Nothing is compiled yet.

        Args:
          config: of the run.
          shapes: of a state, as trees.
          layout: of the vectors in their place.
          mesh: of all devices.
        """
        self.layout = layout
        joined = jax.eval_shape(layout.join_state, shapes)
        self._shapes = checkpoint.abstract(joined, parallel.everywhere(mesh))
        self._step = build_step(config, mesh, self.layout)
        self._key = run_key(config.seed, mesh)
        self._ahead: threading.Thread | None = None

    def compile_ahead(self, rows: Batch) -> None:
        """Compiles for rows like these in a thread, while there is no state yet.

        Only where one process can: several might find each other compiling different programs. An
        error is left to the first update, which makes it again.
        """
        lower = getattr(self._step, "lower", None)
        if jax.process_count() > 1 or lower is None:
            return

        def work() -> None:
            try:
                lower(self._shapes, rows, self._key).compile()
            except Exception:
                return

        self._ahead = threading.Thread(target=work, name="compile_ahead", daemon=True)
        self._ahead.start()

    def __call__(self, state: TrainState, rows: Batch) -> tuple[TrainState, Metrics]:
        """Makes an update; the state, joined by `layout`, is taken. The first call compiles."""
        if self._ahead is not None:
            self._ahead.join()
            self._ahead = None
        return self._step(state, rows, self._key)


def run_key(seed: int, mesh: Mesh) -> jax.Array:
    """Returns the key all randomness of training follows from, on every device."""
    make = partial(jax.random.fold_in, jax.random.key(seed), 1)
    return jax.jit(make, out_shardings=parallel.everywhere(mesh))()


def build_step(config: ConfigDict, mesh: Mesh, layout: flat.Layout) -> Callable:
    """Returns (state, rows, key) -> (state, metrics), compiled and mapped over the mesh.

    The state is one that `layout` has joined.
    """
    step = partial(
        train_step,
        objective=build.objective(config),
        optimizer=build.optimizer(config),
        ema_decay=build.ema_decay(config),
        split=layout.split,
    )
    return parallel.map_step(step, mesh, config.train.map)


def device_batches(
    config: ConfigDict, examples: list[Example], first: int, mesh: Mesh
) -> Iterator[Batch]:
    """Yields the rows of update first + 1, first + 2, ... as uint8 on the devices."""
    process = jax.process_index(), jax.process_count()
    c, view = config.train, build.view(config)
    for batch in batches(examples, c.batch_size, config.seed, first, process, view):
        yield parallel.split_rows(batch, mesh)
