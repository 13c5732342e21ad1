"""Training objectives: the denoising error (eq. 18) and the cross-entropy of one-pass networks."""

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
Losses = tuple[jax.Array, tuple[jax.Array, jax.Array]]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def accumulate_mean(term: Term, operands: Tree, keys: jax.Array) -> tuple[jax.Array, Tree]:
    """Computes the mean of a term over keys with gradient accumulation.

    Holds the activations of one term only, where a differentiated loop keeps the residuals of all.

    Args:
      term: (operands, key) -> (value [], auxiliary outputs). Values it closes over must not depend
        on what the result is differentiated in.
      operands: float32 or bfloat16 arrays; their gradients are accumulated in float32.
      keys: [n, ...], the randomness of each term.

    Returns:
      (mean [], auxiliary outputs of all terms, [n, ...]); only the mean has a gradient.
    """
    values, auxiliary = jax.lax.map(partial(term, operands), keys)
    return jnp.mean(values), auxiliary


def _forward(
    term: Term, operands: Tree, keys: jax.Array
) -> tuple[tuple[jax.Array, Tree], tuple[Tree, jax.Array]]:
    value_and_grad = jax.value_and_grad(term, has_aux=True)

    def add(sums: tuple[jax.Array, Tree], key: jax.Array) -> tuple[tuple[jax.Array, Tree], Tree]:
        (value, auxiliary), gradient = value_and_grad(operands, key)
        return jax.tree.map(jnp.add, sums, (value, gradient)), auxiliary

    # a bfloat16 sum would round away the later of many terms
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), operands)
    (value, gradient), auxiliary = jax.lax.scan(add, (jnp.zeros(()), zeros), keys)
    n = len(keys)
    mean = jax.tree.map(lambda sums, leaf: (sums / n).astype(leaf.dtype), gradient, operands)
    return (value / n, auxiliary), (mean, keys)


def _backward(
    term: Term, residuals: tuple[Tree, jax.Array], cotangents: tuple[jax.Array, Tree]
) -> tuple[Tree, np.ndarray]:
    gradient, keys = residuals
    scaled = jax.tree.map(lambda leaf: leaf * cotangents[0].astype(leaf.dtype), gradient)
    return scaled, np.zeros(keys.shape, jax.dtypes.float0)


accumulate_mean.defvjp(_forward, _backward)


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """Computes the loss that training minimises.

    Attributes:
      model: the network.
      augment: (key, image, mask) -> (image, mask) of one example.
      mean, std: of the image's channels, in 0..255.
      reduction: of the loss over the pixels of an image, "sum" or "mean".
    """

    model: SegDiff
    augment: Augment
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reduction: str = "sum"

    @abstractmethod
    def example_losses(
        self, params: Params, masks: jax.Array, features: jax.Array, keys: jax.Array
    ) -> Losses:
        """Computes what `loss` returns, as means over pixels.

        Args:
          params: of the model.
          masks: [B, H, W] in {0, 1}.
          features: G of their images, [B, h, w, C].
          keys: [B], the randomness of each row.
        """

    def preprocess(self, image: Array, mask: Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Augments an image [H, W, 3] and its mask [H, W], both uint8; normalises the image."""
        image, mask = self.augment(key, jnp.asarray(image, jnp.float32), jnp.asarray(mask))
        return normalise(image, self.mean, self.std), mask

    def loss(self, params: Params, batch: Batch, keys: jax.Array) -> Losses:
        """Computes the mean loss over the rows of a batch.

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
        # all rows in one call: gradients of kernels are sums over rows, see `models.ops.conv`
        features = call(self.model, "encode", params, images)
        loss, (losses, mses) = self.example_losses(params, masks, features, keys)
        pixels = masks[0].size if self.reduction == "sum" else 1
        return loss * pixels, (losses * pixels, mses)


@dataclass(frozen=True, kw_only=True)
class DenoisingObjective(Objective):
    """Computes the squared error of the denoising network's prediction (eq. 18).

    Attributes:
      schedule: of the forward process.
      prediction: what the network's output parameterises.
      draws: (t, noise) pairs for each image; they share one G(I).
      draws_at_once: draws that are denoised in one batch, a divisor of draws; None: all.
    """

    schedule: Schedule
    prediction: Prediction
    draws: int = 1
    draws_at_once: int | None = None

    def denoising_losses(
        self,
        params: Params,
        x0: jax.Array,
        features: jax.Array,
        t: jax.Array,
        eps: jax.Array,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Computes the mean squared error of each of R draws (eq. 18), [R].

        Args:
          params: of the model.
          x0: [R, H, W, 1] in {-1, +1}.
          features: G(I), [R, h, w, C].
          t: [R] int32 in 1..T.
          eps: [R, H, W, 1].
          dropout_keys: [R]; None: no dropout.
        """
        x_t = jax.vmap(partial(add_noise, self.schedule))(x0, t, eps)
        output = call(self.model, "denoise", params, x_t, t, features, dropout_keys)
        target = jax.vmap(partial(self.prediction.target, self.schedule))(x0, t, eps)
        return jnp.mean(jnp.square(output - target), (1, 2, 3))

    def example_losses(
        self, params: Params, masks: jax.Array, features: jax.Array, keys: jax.Array
    ) -> Losses:
        """Computes the mean squared error over the draws of each row; it is loss and mse."""
        at_once = self.draws_at_once or self.draws
        draw_keys = jax.vmap(lambda key: jax.random.split(key, self.draws), out_axes=1)(keys)
        draw_keys = draw_keys.reshape(self.draws // at_once, at_once, len(keys))
        x0 = jnp.concatenate([to_signed(masks)] * at_once)  # [at_once B, H, W, 1]

        def denoise(
            operands: tuple[Params, jax.Array], keys: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            params, features = operands
            features = jnp.concatenate([features] * at_once)
            t, eps, dropout_keys = jax.vmap(partial(self.draw, x0.shape[1:]))(keys.reshape(-1))
            losses = self.denoising_losses(params, x0, features, t, eps, dropout_keys)
            return jnp.mean(losses), losses.reshape(keys.shape)

        operands = without_encoder(params), features
        if len(draw_keys) == 1:
            loss, losses = denoise(operands, draw_keys[0])
        else:
            loss, losses = accumulate_mean(denoise, operands, draw_keys)
        mses = jnp.mean(losses.reshape(self.draws, -1), axis=0)
        return loss, (mses, mses)

    def draw(
        self, shape: tuple[int, ...], key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draws t [] and noise of a shape; returns them with the key of dropout."""
        t_key, eps_key, dropout_key = jax.random.split(key, 3)
        t = jax.random.randint(t_key, (), 1, self.schedule.T + 1)
        return t, jax.random.normal(eps_key, shape), dropout_key


@dataclass(frozen=True, kw_only=True)
class CrossEntropyObjective(Objective):
    """Computes the binary cross-entropy of a one-pass network's pixels."""

    def example_losses(
        self, params: Params, masks: jax.Array, features: jax.Array, keys: jax.Array
    ) -> Losses:
        """Computes the cross-entropy in nats, and the squared error of the probability."""
        logits = call(self.model, "denoise", params, None, None, features, keys)
        logits, truth = logits[..., 0], masks.astype(jnp.float32)
        losses = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, truth), (1, 2))
        mses = jnp.mean(jnp.square(jax.nn.sigmoid(logits) - truth), (1, 2))
        return jnp.mean(losses), (losses, mses)
