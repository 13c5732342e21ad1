"""The state of training as a few long vectors, which is how an update takes it.

A network has hundreds of arrays, and an optimizer keeps three more of each. What is done to every
one alike, done to one vector that holds them all, is a handful of operations instead of thousands:
less to trace, to compile, to load and to launch. Checkpoints, and all who read weights by their
names, have trees.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.training.step import TrainState

Tree = Any


class FlatLayout:
    """Where in a vector [P] each array of a tree of parameters lies.

    Attributes:
      size: P, the number of parameters.
    """

    def __init__(self, params: Tree) -> None:
        """Lays the arrays out in the order of `jax.tree.leaves`.

        Args:
          params: arrays or `jax.ShapeDtypeStruct`s, float32.
        """
        leaves, self._structure = jax.tree.flatten(params)
        self._shapes = [leaf.shape for leaf in leaves]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self.size = sum(self._sizes)

    def flatten(self, params: Tree) -> jax.Array:
        """Returns the vector [P] that holds a tree of parameters."""
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(params)])

    def unflatten(self, vector: Any) -> Tree:
        """Returns the tree that a vector [P] holds: views of it, if it is of numpy."""
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
        """Returns `flatten_state` of it, and takes it as a step does: its arrays are deleted."""
        leaves = jax.tree.leaves(state)
        join = jax.jit(self.flatten_state, out_shardings=leaves[0].sharding)
        made = jax.block_until_ready(join(state))
        for leaf in leaves:
            leaf.delete()
        return made

    def to_host(self, state: Tree) -> Tree:
        """Returns a joined state, or a part of one, as trees of numpy arrays; waits for it.

        They are copies, made from one device.
        """

        def copied(x: jax.Array) -> Tree:
            host = np.array(x.addressable_data(0))
            return self.unflatten(host) if host.shape == (self.size,) else host

        return jax.tree.map(copied, state)

    def _is_params(self, x: Any) -> bool:
        return jax.tree.structure(x) == self._structure
