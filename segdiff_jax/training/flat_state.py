"""Flattens params, EMA and optimizer moments into one vector each, for the training step.

A network has hundreds of arrays, and training holds three more of each. Operations on one vector in
place of every array are a handful instead of thousands: less to trace, to compile, to load and to
launch. Checkpoints, and all code that reads weights by name, have trees.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.training.step import TrainState

Tree = Any


class FlatLayout:
    """Maps a tree of parameters to a vector [P] and back, in the order of `jax.tree.leaves`.

    Attributes:
      size: P, the number of parameters.
    """

    def __init__(self, params: Tree) -> None:
        """Records the layout of arrays or `jax.ShapeDtypeStruct`s, float32."""
        leaves, self._structure = jax.tree.flatten(params)
        self._shapes = [leaf.shape for leaf in leaves]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self.size = sum(self._sizes)

    def flatten(self, params: Tree) -> jax.Array:
        """Concatenates a tree of parameters into a vector [P]."""
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(params)])

    def unflatten(self, vector: Any) -> Tree:
        """Splits a vector [P] into the tree of parameters; views of it, if it is of numpy."""
        if isinstance(vector, np.ndarray):
            pieces = np.split(vector, np.cumsum(self._sizes)[:-1])
        else:
            pieces = jax.lax.split(vector, self._sizes)
        shaped = [x.reshape(shape) for x, shape in zip(pieces, self._shapes, strict=True)]
        return self._structure.unflatten(shaped)

    def flatten_state(self, state: TrainState) -> TrainState:
        """Returns a state with a vector [P] in place of every tree of parameters."""
        return jax.tree.map(
            lambda x: self.flatten(x) if self._is_params(x) else x, state, is_leaf=self._is_params
        )

    def flatten_state_donating(self, state: TrainState) -> TrainState:
        """Returns `flatten_state(state)` and deletes the arrays of the state."""
        leaves = jax.tree.leaves(state)
        flatten = jax.jit(self.flatten_state, out_shardings=leaves[0].sharding)
        flat = jax.block_until_ready(flatten(state))
        for leaf in leaves:
            leaf.delete()
        return flat

    def to_host(self, state: Tree) -> Tree:
        """Copies a flat state, or a part of one, from one device to trees of numpy arrays."""

        def copy(x: jax.Array) -> Tree:
            host = np.array(x.addressable_data(0))
            return self.unflatten(host) if host.shape == (self.size,) else host

        return jax.tree.map(copy, state)

    def _is_params(self, x: Any) -> bool:
        return jax.tree.structure(x) == self._structure
