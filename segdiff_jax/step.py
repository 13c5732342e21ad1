"""How to learn: the loss of one example, and one step of the optimizer (paper, Alg. 2)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from segdiff_jax.accumulation import mean_in_turn
from segdiff_jax.data.augment import Augment
from segdiff_jax.data.example import Array, Batch, normalise, to_signed
from segdiff_jax.diffusion import Prediction, Schedule, add_noise
from segdiff_jax.models import initial
from segdiff_jax.models.segdiff import SegDiff, call, without_encoder

AXIS = "data"  # the name of the mapped axis: devices

Params = Any  # nested dictionaries of float32 arrays
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


class Loss(ABC):
    """What is minimised, whatever the network answers.

    Attributes:
      model: the network.
      augment: (key, image, mask) -> (image, mask) of one example.
      mean, std: of the image's channels, in 0..255.
      reduction: of the error over the pixels of an image, "sum" or "mean".
    """

    model: SegDiff
    augment: Augment
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reduction: str

    @abstractmethod
    def errors(
        self, params: Params, masks: jax.Array, features: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Returns the mean error of the rows, and what is reported; all are means over pixels.

        Args:
          params: of the model.
          masks: [B, H, W] in {0, 1}.
          features: of their images, [B, h, w, C].
          keys: [B], of all that is random.

        Returns:
          (error [], (error of each row [B], mean squared error of each row [B])); only the first
          has a gradient.
        """

    def shown(self, image: Array, mask: Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns what is learned from one example: normalised image [H, W, 3], mask [H, W].

        Args:
          image: [H, W, 3] uint8.
          mask: [H, W] uint8 in {0, 1}.
          key: of what the augmentation draws.
        """
        image, mask = self.augment(key, jnp.asarray(image, jnp.float32), jnp.asarray(mask))
        return normalise(image, self.mean, self.std), mask

    def loss(
        self, params: Params, batch: Batch, keys: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Returns the mean loss over the rows of a batch, and what it is made of.

        Args:
          params: of the model.
          batch: of B rows.
          keys: [B], one a row.

        Returns:
          (loss [], (loss of each row [B], mean squared error of each row [B])); only the first has
          a gradient.
        """
        augment_keys, keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)  # [B] each
        images, masks = jax.vmap(self.shown)(batch.image, batch.mask, augment_keys)
        # not row by row: gradients of kernels are sums over all rows, see `models.convolution`
        features = call(self.model, "encode", params, images)
        error, (errors, mses) = self.errors(params, masks, features, keys)
        pixels = masks[0].size if self.reduction == "sum" else 1
        return error * pixels, (errors * pixels, mses)


@dataclass(frozen=True)
class Objective(Loss):
    """The squared error of a network that denoises (eq. 18).

    Attributes:
      model, augment, mean, std, reduction: see `Loss`.
      schedule: of the forward process.
      prediction: what the network's output means.
      draws: (t, noise) pairs for each image; they share one G(I).
      at_once: so many of them are denoised together, a divisor of draws; None: all.
    """

    model: SegDiff
    schedule: Schedule
    prediction: Prediction
    augment: Augment
    mean: tuple[float, ...]
    std: tuple[float, ...]
    draws: int = 1
    at_once: int | None = None
    reduction: str = "sum"

    def denoising_errors(
        self,
        params: Params,
        x0: jax.Array,
        features: jax.Array,
        t: jax.Array,
        eps: jax.Array,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the mean squared error of each of R draws (eq. 18), [R].

        Args:
          params: of the model.
          x0: [R, H, W, 1] in {-1, +1}.
          features: G(I), [R, h, w, C].
          t: [R] int32 in 1..T.
          eps: [R, H, W, 1].
          dropout_keys: [R], which turn dropout on.
        """
        x_t = jax.vmap(partial(add_noise, self.schedule))(x0, t, eps)
        output = call(self.model, "denoise", params, x_t, t, features, dropout_keys)
        target = jax.vmap(partial(self.prediction.target, self.schedule))(x0, t, eps)
        return jnp.mean(jnp.square(output - target), (1, 2, 3))

    def errors(
        self, params: Params, masks: jax.Array, features: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Returns the mean squared error of all draws, and that of each row twice; see `Loss`."""
        at_once = self.at_once or self.draws
        draws = jax.vmap(lambda key: jax.random.split(key, self.draws), out_axes=1)(keys)  # [K, B]
        draws = draws.reshape(self.draws // at_once, at_once, len(keys))
        x0 = jnp.concatenate([to_signed(masks)] * at_once)  # [at_once B, H, W, 1]

        def denoised(
            given: tuple[Params, jax.Array], keys: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            params, features = given
            features = jnp.concatenate([features] * at_once)
            t, eps, dropout_keys = jax.vmap(partial(self.draw, x0.shape[1:]))(keys.reshape(-1))
            errors = self.denoising_errors(params, x0, features, t, eps, dropout_keys)
            return jnp.mean(errors), errors.reshape(keys.shape)

        given = without_encoder(params), features
        if len(draws) == 1:
            error, errors = denoised(given, draws[0])
        else:
            error, errors = mean_in_turn(denoised, given, draws)
        mses = jnp.mean(errors.reshape(self.draws, -1), axis=0)
        return error, (mses, mses)

    def draw(
        self, shape: tuple[int, ...], key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns t [], noise of this shape, and the key of what dropout drops."""
        t_key, eps_key, dropout_key = jax.random.split(key, 3)
        t = jax.random.randint(t_key, (), 1, self.schedule.T + 1)
        return t, jax.random.normal(eps_key, shape), dropout_key


def init_state(
    objective: Loss,
    optimizer: optax.GradientTransformation,
    size: tuple[int, int],
    key: jax.Array,
) -> TrainState:
    """Returns fresh weights; size is (H, W) of the network's input and leaves no trace in them."""
    image, x_t = jnp.zeros((1, *size, 3)), jnp.zeros((1, *size, 1))
    t = jnp.ones((1,), jnp.int32)
    params = initial.draw(lambda key: objective.model.init(key, image, x_t, t), key)
    # a copy: the step donates its state, and one buffer cannot be donated twice
    ema_params = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema_params, optimizer.init(params))


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    objective: Loss,
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
    objective: Loss,
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
