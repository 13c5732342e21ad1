"""What is learned: the loss of a batch, and that of a network that denoises (paper, Alg. 2)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from segdiff_jax.accumulation import mean_in_turn
from segdiff_jax.data.augment import Augment
from segdiff_jax.data.example import Array, Batch, normalise, to_signed
from segdiff_jax.diffusion import Prediction, Schedule, add_noise
from segdiff_jax.models.segdiff import SegDiff, call, without_encoder

Params = Any  # nested dictionaries of float32 arrays


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
