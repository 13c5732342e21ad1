"""A mean and its gradient, of many terms one after the other, in the memory of one."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from segdiff_jax.data.augment import Augment
from segdiff_jax.data.example import Array, Batch, normalise, to_signed
from segdiff_jax.diffusion import Prediction, Schedule, add_noise
from segdiff_jax.models.segdiff import Params, SegDiff, call, without_encoder

Tree = Any  # of arrays


Term = Callable[[Tree, jax.Array], tuple[jax.Array, Tree]]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def accumulate_mean(term: Term, given: Tree, keys: jax.Array) -> tuple[jax.Array, Tree]:
    """The mean of a term over keys, whose gradient is gathered as the terms are computed.

    Nothing of a term outlives it, where a loop that is differentiated keeps what all terms need
    for their gradients.

    Args:
      term: (given, key) -> (value [], anything else). What else it knows must not depend on what
        the result is differentiated in.
      given: arrays of float32 or bfloat16, in which the mean can be differentiated; what they
        gather is float32.
      keys: [n, ...], of what is random in each term.

    Returns:
      (mean [], anything else of all terms, [n, ...]); only the mean has a gradient.
    """
    values, rest = jax.lax.map(partial(term, given), keys)
    return jnp.mean(values), rest


def _forward(
    term: Term, given: Tree, keys: jax.Array
) -> tuple[tuple[jax.Array, Tree], tuple[Tree, jax.Array]]:
    valued = jax.value_and_grad(term, has_aux=True)

    def add(sums: tuple[jax.Array, Tree], key: jax.Array) -> tuple[tuple[jax.Array, Tree], Tree]:
        (value, rest), gradient = valued(given, key)
        return jax.tree.map(jnp.add, sums, (value, gradient)), rest

    # bfloat16 would lose what many terms add
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), given)
    (value, gradient), rest = jax.lax.scan(add, (jnp.zeros(()), zeros), keys)
    mean = jax.tree.map(lambda sums, leaf: (sums / len(keys)).astype(leaf.dtype), gradient, given)
    return (value / len(keys), rest), (mean, keys)


def _backward(
    term: Term, kept: tuple[Tree, jax.Array], of: tuple[jax.Array, Tree]
) -> tuple[Tree, np.ndarray]:
    gradient, keys = kept
    scaled = jax.tree.map(lambda leaf: leaf * of[0].astype(leaf.dtype), gradient)
    return scaled, np.zeros(keys.shape, jax.dtypes.float0)


accumulate_mean.defvjp(_forward, _backward)


class Objective(ABC):
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
    def example_losses(
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

    def preprocess(self, image: Array, mask: Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
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
        images, masks = jax.vmap(self.preprocess)(batch.image, batch.mask, augment_keys)
        # not row by row: gradients of kernels are sums over all rows, see `models.ops.conv`
        features = call(self.model, "encode", params, images)
        error, (errors, mses) = self.example_losses(params, masks, features, keys)
        pixels = masks[0].size if self.reduction == "sum" else 1
        return error * pixels, (errors * pixels, mses)


@dataclass(frozen=True)
class DenoisingObjective(Objective):
    """The squared error of a network that denoises (eq. 18).

    Attributes:
      model, augment, mean, std, reduction: see `Objective`.
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

    def denoising_losses(
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

    def example_losses(
        self, params: Params, masks: jax.Array, features: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Returns the mean squared error of all draws, and that of each row twice."""
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
            errors = self.denoising_losses(params, x0, features, t, eps, dropout_keys)
            return jnp.mean(errors), errors.reshape(keys.shape)

        given = without_encoder(params), features
        if len(draws) == 1:
            error, errors = denoised(given, draws[0])
        else:
            error, errors = accumulate_mean(denoised, given, draws)
        mses = jnp.mean(errors.reshape(self.draws, -1), axis=0)
        return error, (mses, mses)

    def draw(
        self, shape: tuple[int, ...], key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns t [], noise of this shape, and the key of what dropout drops."""
        t_key, eps_key, dropout_key = jax.random.split(key, 3)
        t = jax.random.randint(t_key, (), 1, self.schedule.T + 1)
        return t, jax.random.normal(eps_key, shape), dropout_key


@dataclass(frozen=True)
class CrossEntropyObjective(Objective):
    """The binary cross-entropy of the pixels; attributes as in `loss.Objective`."""

    model: SegDiff
    augment: Augment
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reduction: str = "sum"

    def example_losses(
        self, params: Params, masks: jax.Array, features: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Returns the cross-entropy in nats, and of each row with the squared error.

        The squared error is that of the probability.
        """
        logits = call(self.model, "denoise", params, None, None, features, keys)
        logits, truth = logits[..., 0], masks.astype(jnp.float32)
        errors = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, truth), (1, 2))
        mses = jnp.mean(jnp.square(jax.nn.sigmoid(logits) - truth), (1, 2))
        return jnp.mean(errors), (errors, mses)
