"""One training step (paper, Alg. 2): loss, gradient, optimizer, moving average of the weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from segdiff_jax.data.example import Batch
from segdiff_jax.models import init
from segdiff_jax.models.segdiff import Params
from segdiff_jax.training.loss import Losses, Objective, accumulate_mean, weighted_mean

Metrics = dict[str, jax.Array]


@struct.dataclass
class TrainState:
    """Everything that changes during training, and that a checkpoint holds."""

    step: jax.Array  # int32 [], training steps taken
    params: Params
    ema_params: Params  # the exponential moving average of params, which is evaluated
    opt_state: optax.OptState


def init_state(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    size: tuple[int, int],
    key: jax.Array,
) -> TrainState:
    """Initialises the weights; size is any valid (H, W) of the input and does not affect them."""
    x_t = jnp.zeros((1, *size, objective.channels))
    inputs = jnp.zeros((1, *size, len(objective.mean))), x_t, jnp.ones(1, jnp.int32)
    params = init.draw(lambda key: objective.model.init(key, *inputs), key)
    # a copy: the step donates its state, and one buffer cannot be donated twice
    ema_params = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.int32(0), params, ema_params, optimizer.init(params))


@dataclass(frozen=True)
class Learner:
    """Takes training steps on one device of a mapped axis.

    Attributes:
      objective, optimizer: compute the loss and its updates.
      ema_decay: number of the step (from 1) -> decay of the moving average.
      axis: name of the mapped axis.
      unflatten: state.params -> the model's parameters, where the state holds a vector
        (`flat_state`).
      batch_size: rows of the global batch; rows of a device's batch from there on are padding of
        zeros, which weighs nothing. 0: there is none.
      parts: into which the rows of a device are divided; only the activations of one part are held.
      first: the objective of the first steps; None: as of all others.
      first_steps: their number.
    """

    objective: Objective
    optimizer: optax.GradientTransformation
    ema_decay: Callable[[jax.Array], jax.Array]
    axis: str
    unflatten: Callable[[Any], Params] = lambda params: params
    batch_size: int = 0
    parts: int = 1
    first: Objective | None = None
    first_steps: int = 0

    def train_step(
        self, state: TrainState, batch: Batch, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Takes a step, or skips it if its loss or gradient is not finite; see `update`.

        A skipped step is counted and changes nothing else, so the state stays finite; the host
        reads the metrics and decides whether the run continues (`nonfinite`).
        """
        updated, metrics = self.update(state, batch, key)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
        skipped = replace(state, step=updated.step)
        return jax.tree.map(partial(jnp.where, finite), updated, skipped), metrics

    def update(self, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        """Takes a step without checking that it is finite.

        Args:
          state: replicated.
          batch: this device's rows.
          key: of the run; the same for all steps and devices.

        Returns:
          The next state, and {"loss", "mse", "grad_norm"} with "finite_rows", [global batch] bool:
          whether the loss of each row is finite; replicated.
        """
        slots = len(batch.mask) * jax.lax.axis_size(self.axis)
        first = jax.lax.axis_index(self.axis) * len(batch.mask)  # in the global batch
        keys = row_keys(key, state.step, first, len(batch.mask))
        rows = batch, keys, first
        if self.first is None:
            (loss, (losses, mses)), grads = self.gradients(state.params, rows, slots)
        else:
            early = partial(replace(self, objective=self.first).gradients, slots=slots)
            late = partial(self.gradients, slots=slots)
            of_step = jax.lax.cond(state.step < self.first_steps, early, late, state.params, rows)
            (loss, (losses, mses)), grads = of_step
        # each device fills its part of a zero vector, so that one all-reduce does for everything
        zeros = jnp.zeros(slots)
        finite = jnp.isfinite(losses).astype(jnp.float32)
        finite = jax.lax.dynamic_update_slice(zeros, finite, (first,))
        mse = weighted_mean(mses, self.weights(first, len(mses), slots))
        loss, mse, grads, finite = jax.lax.pmean((loss, mse, grads, finite), self.axis)
        # materialized, because the optimizer and the norm both read it
        grads = jax.lax.optimization_barrier(grads)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        step = state.step + 1
        decay = self.ema_decay(step)
        ema_params = optax.incremental_update(params, state.ema_params, 1 - decay)
        metrics = {"loss": loss, "mse": mse, "grad_norm": optax.tree.norm(grads)}
        metrics["finite_rows"] = finite[: self.batch_size or slots] > 0
        return TrainState(step, params, ema_params, opt_state), metrics

    def gradients(
        self, params: Any, rows: tuple[Batch, jax.Array, jax.Array], slots: int
    ) -> tuple[Losses, Any]:
        """Computes the loss of this device's rows and its gradients.

        Args:
          params: as in the state.
          rows: see `rows_loss`, of all of the device.
          slots: see `rows_loss`.
        """
        batch, keys, first = rows
        of_rows = partial(self.rows_loss, slots=slots)
        if self.parts == 1:
            loss_of = partial(of_rows, chosen=rows)
        else:
            loss_of = partial(self.accumulated_loss, of_rows, batch=batch, keys=keys, first=first)
        return jax.value_and_grad(loss_of, has_aux=True)(params)

    def rows_loss(
        self, params: Any, chosen: tuple[Batch, jax.Array, jax.Array], *, slots: int
    ) -> Losses:
        """Computes `Objective.loss` of rows first, first + 1, ... of the global batch.

        Args:
          params: as in the state.
          chosen: (rows [B], keys [B], first []).
          slots: rows of the global batch with padding.
        """
        batch, keys, first = chosen
        strata = stratified(keys, first, self.batch_size or slots)
        weights = self.weights(first, len(keys), slots)
        return self.objective.loss(self.unflatten(params), batch, keys, strata, weights)

    def accumulated_loss(
        self, term: Any, params: Any, *, batch: Batch, keys: jax.Array, first: jax.Array
    ) -> Losses:
        """Computes `rows_loss`, which is the term, of all rows of a device, part after part."""

        def split(x: jax.Array) -> jax.Array:
            return jnp.reshape(x, (self.parts, -1, *x.shape[1:]))

        rows = len(keys) // self.parts
        chosen = *jax.tree.map(split, (batch, keys)), first + rows * jnp.arange(self.parts)
        loss, of_rows = accumulate_mean(term, params, chosen)
        return loss, jax.tree.map(jnp.ravel, of_rows)

    def weights(self, first: jax.Array, count: int, slots: int) -> jax.Array | None:
        """Returns the weights [count] of rows first, ..., whose mean over all slots is 1.

        None: there is no padding.
        """
        if self.batch_size in (0, slots):
            return None
        is_row = first + jnp.arange(count) < self.batch_size
        return jnp.where(is_row, slots / self.batch_size, 0.0)


def row_keys(key: jax.Array, step: jax.Array, first: jax.Array, rows: int) -> jax.Array:
    """Returns the keys [rows] of the rows first, first + 1, ... of the global batch of a step.

    They belong to the row, not to the device: training does not depend on the number of devices.
    """
    step_key = jax.random.fold_in(key, step)
    return jax.vmap(jax.random.fold_in, (None, 0))(step_key, first + jnp.arange(rows))


def stratified(keys: jax.Array, first: jax.Array, count: int) -> jax.Array:
    """Returns a number in [0, 1) for each row, [B], uniform within the row's share 1 / count of it.

    Args:
      keys: [B], of the rows first, first + 1, ... of the global batch.
      first: [] int32.
      count: of rows in the global batch.
    """
    own_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 1)
    inside = jax.vmap(jax.random.uniform)(own_keys)
    return (first + jnp.arange(len(keys)) + inside) / count


def split_state(state: TrainState) -> tuple[dict, dict]:
    """Splits a state into the two parts of a checkpoint: the averaged weights, and the rest."""
    rest = {name: getattr(state, name) for name in ("step", "params", "opt_state")}
    return state.ema_params, rest
