"""How to learn: one step of the optimizer (paper, Alg. 2)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from segdiff_jax.data.example import Batch
from segdiff_jax.models import init
from segdiff_jax.models.segdiff import Params
from segdiff_jax.training.loss import Objective

AXIS = "data"  # the name of the mapped axis: devices


Metrics = dict[str, jax.Array]


@struct.dataclass
class TrainState:
    """All that changes while training, and all that is saved.

    Attributes:
      step: int32 [], updates made.
      params: the weights.
      ema_params: their exponential moving average, which is what is evaluated.
      opt_state: of the optimizer.
    """

    step: jax.Array
    params: Params
    ema_params: Params
    opt_state: optax.OptState


def init_state(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    size: tuple[int, int],
    key: jax.Array,
) -> TrainState:
    """Returns fresh weights; size is (H, W) of the network's input and leaves no trace in them."""
    image, x_t = jnp.zeros((1, *size, 3)), jnp.zeros((1, *size, 1))
    t = jnp.ones((1,), jnp.int32)
    params = init.draw(lambda key: objective.model.init(key, image, x_t, t), key)
    # a copy: the step donates its state, and one buffer cannot be donated twice
    ema_params = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema_params, optimizer.init(params))


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    ema_decay: Callable[[jax.Array], jax.Array],
    split: Callable[[Any], Params] = lambda params: params,
) -> tuple[TrainState, Metrics]:
    """One update on one device of the mapped axis `AXIS`, without effect if it is not finite.

    An update whose loss or gradient is not finite is counted and has no other effect, so the state
    stays as good as it was; who reads the metrics decides whether the run goes on. Arguments and
    results are those of `update`.
    """
    made, metrics = update(
        state,
        batch,
        key,
        objective=objective,
        optimizer=optimizer,
        ema_decay=ema_decay,
        split=split,
    )
    good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    return jax.tree.map(partial(jnp.where, good), made, replace(state, step=made.step)), metrics


def update(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    ema_decay: Callable[[jax.Array], jax.Array],
    split: Callable[[Any], Params] = lambda params: params,
) -> tuple[TrainState, Metrics]:
    """One update on one device of the mapped axis `AXIS`, whatever becomes of the numbers.

    Random numbers belong to the row of the global batch, not to the device, so the number of
    devices does not change what is learned.

    Args:
      state: replicated.
      batch: this device's rows.
      key: of the run; the same for all steps and devices.
      objective: what is minimised.
      optimizer: of optax.
      ema_decay: number of this update (from 1) -> decay of the moving average.
      split: state.params -> what the model takes, where the state holds it otherwise (`flat`).

    Returns:
      The next state, and {"loss", "mse", "grad_norm"} with "finite_rows", [global batch] bool:
      whether the loss of each row is finite; replicated.
    """
    rows = batch.mask.shape[0]
    first = jax.lax.axis_index(AXIS) * rows
    step_key = jax.random.fold_in(key, state.step)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, first + jnp.arange(rows))

    def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return objective.loss(split(params), batch, keys)

    (loss, (losses, mses)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    everyone = jnp.zeros(rows * jax.lax.axis_size(AXIS))  # a sum, to share the one all-reduce
    finite = jax.lax.dynamic_update_slice(
        everyone, jnp.isfinite(losses).astype(jnp.float32), (first,)
    )
    loss, mse, grads, finite = jax.lax.pmean((loss, jnp.mean(mses), grads, finite), AXIS)

    grads = jax.lax.optimization_barrier(grads)  # made once for what follows and for its norm
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    step = state.step + 1
    ema_params = optax.incremental_update(params, state.ema_params, 1 - ema_decay(step))
    metrics = {
        **{"loss": loss, "mse": mse, "grad_norm": optax.tree.norm(grads)},
        "finite_rows": finite > 0,
    }
    return TrainState(step, params, ema_params, opt_state), metrics


def split_state(state: TrainState) -> tuple[dict, dict]:
    """The two parts of a checkpoint: the averaged weights, and the rest."""
    return state.ema_params, {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
    }
