"""Training objectives: the denoising error (eq. 18) and the cross-entropy of one-pass networks."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from segdiff_jax.data.augment import Augment
from segdiff_jax.data.example import Array, Batch, by_channel, normalise, to_bits, to_signed
from segdiff_jax.diffusion import Prediction, Schedule, add_noise
from segdiff_jax.models.segdiff import Params, SegDiff, call, without_encoder

Tree = Any  # of arrays
Term = Callable[[Tree, jax.Array], tuple[jax.Array, Tree]]
Losses = tuple[jax.Array, tuple[jax.Array, jax.Array]]
Draws = Literal["uniform", "T+uniform", "T+recycled"]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def accumulate_mean(term: Term, operands: Tree, keys: Tree) -> tuple[jax.Array, Tree]:
    """Computes the mean of a term over keys with gradient accumulation.

    Holds the activations of one term only, where a differentiated loop keeps the residuals of all.

    Args:
      term: (operands, key) -> (value [], auxiliary outputs). Values it closes over must not depend
        on what the result is differentiated in.
      operands: float32 or bfloat16 arrays; their gradients are accumulated in float32.
      keys: of n keys or integers each, [n, ...]: the randomness of each term.

    Returns:
      (mean [], auxiliary outputs of all terms, [n, ...]); only the mean has a gradient.
    """
    values, auxiliary = jax.lax.map(partial(term, operands), keys)
    return jnp.mean(values), auxiliary


def _forward(
    term: Term, operands: Tree, keys: Tree
) -> tuple[tuple[jax.Array, Tree], tuple[Tree, Tree]]:
    value_and_grad = jax.value_and_grad(term, has_aux=True)

    def add(sums: tuple[jax.Array, Tree], key: Tree) -> tuple[tuple[jax.Array, Tree], Tree]:
        (value, auxiliary), gradient = value_and_grad(operands, key)
        return jax.tree.map(jnp.add, sums, (value, gradient)), auxiliary

    # a bfloat16 sum would round away the later of many terms
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), operands)
    (value, gradient), auxiliary = jax.lax.scan(add, (jnp.zeros(()), zeros), keys)
    n = len(jax.tree.leaves(keys)[0])
    mean = jax.tree.map(lambda sums, leaf: (sums / n).astype(leaf.dtype), gradient, operands)
    return (value / n, auxiliary), (mean, keys)


def _backward(
    term: Term, residuals: tuple[Tree, Tree], cotangents: tuple[jax.Array, Tree]
) -> tuple[Tree, Tree]:
    gradient, keys = residuals
    scaled = jax.tree.map(lambda leaf: leaf * cotangents[0].astype(leaf.dtype), gradient)
    return scaled, jax.tree.map(lambda of: np.zeros(of.shape, jax.dtypes.float0), keys)


accumulate_mean.defvjp(_forward, _backward)


def weighted_mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Computes the mean of weighted values [K B], in K groups of rows with weights [B] or None."""
    if weights is None:
        return jnp.mean(values)
    return jnp.mean(values.reshape(-1, len(weights)) * weights)


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """Computes the loss that training minimises.

    Attributes:
      model: the network.
      augment: (key, image, mask) -> (image, mask) of one example.
      mean, std: of the image's channels, in 0..255.
      reduction: of the loss over the pixels of an image, "sum" or "mean".
      channels: K, of the masks, see `data.channels`.
    """

    model: SegDiff
    augment: Augment
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reduction: str = "sum"
    channels: int = 1

    @abstractmethod
    def example_losses(
        self,
        params: Params,
        masks: jax.Array,
        features: jax.Array,
        keys: jax.Array,
        strata: jax.Array | None = None,
        weights: jax.Array | None = None,
    ) -> Losses:
        """Computes what `loss` returns, as means over pixels.

        Args:
          params: of the model.
          masks: [B, H, W] in {0, 1}; of several channels bits, see `data.channels`.
          features: G of their images, [B, h, w, C].
          keys: [B], the randomness of each row.
          strata: see `loss`.
          weights: see `loss`.
        """

    def preprocess(self, image: Array, mask: Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Augments an image [H, W, 3] and its mask [H, W], both uint8; normalises the image."""
        image, mask = self.augment(key, jnp.asarray(image, jnp.float32), jnp.asarray(mask))
        return normalise(image, self.mean, self.std), mask

    def loss(
        self,
        params: Params,
        batch: Batch,
        keys: jax.Array,
        strata: jax.Array | None = None,
        weights: jax.Array | None = None,
    ) -> Losses:
        """Computes the mean loss over the rows of a batch.

        Args:
          params: of the model.
          batch: of B rows.
          keys: [B], one a row.
          strata: [B] in [0, 1), a number drawn for each row, stratified over the rows of all
            devices; None: each by itself. Times are drawn by it where `Draws` says so.
          weights: [B], of the rows in the mean, 0 for padding; None: 1 each.

        Returns:
          (loss [], (loss of each row [B], mean squared error of each row [B])); only the first has
          a gradient, and only the first is weighted.
        """
        augment_keys, keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)  # [B] each
        images, masks = jax.vmap(self.preprocess)(batch.image, batch.mask, augment_keys)
        # all rows in one call: gradients of kernels are sums over rows, see `models.ops.conv`
        features = call(self.model, "encode", params, images)
        loss, (losses, mses) = self.example_losses(params, masks, features, keys, strata, weights)
        pixels = masks[0].size if self.reduction == "sum" else 1
        return loss * pixels, (losses * pixels, mses)


@dataclass(frozen=True, kw_only=True)
class DenoisingObjective(Objective):
    """Computes the error of the denoising network's prediction: squared (eq. 18), or cross-entropy.

    Attributes:
      schedule: of the forward process.
      prediction: what the network's output parameterises; a logit's error is the cross-entropy.
      draws: (t, noise) pairs for each image; they share one G(I).
      draws_at_once: draws that are denoised in one batch, a divisor of draws; None: all.
      kind: of the draws. "uniform": t uniform in 1..T (paper, Alg. 2). "T+uniform": the first at
        t = T, pure noise, which is the problem of a one-pass network; the others in 1..T - 1,
        stratified over the batch. "T+recycled": as that, but some x_t of the others are made of
        the first draw's estimate in place of the mask (Fu et al., arXiv 2308.16355).
      recycled: probability of that for a draw.
      recycled_until: the largest t of such a draw.
    """

    schedule: Schedule
    prediction: Prediction
    draws: int = 1
    draws_at_once: int | None = None
    kind: Draws = "uniform"
    recycled: float = 0.5
    recycled_until: int = 2**31 - 1

    def denoising_losses(
        self,
        params: Params,
        x0: jax.Array,
        features: jax.Array,
        t: jax.Array,
        eps: jax.Array,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Computes the mean error over pixels of each of R draws, [R].

        Args:
          params: of the model.
          x0: [R, H, W, K] in {-1, +1}.
          features: G(I), [R, h, w, C].
          t: [R] int32 in 1..T.
          eps: [R, H, W, K].
          dropout_keys: [R]; None: no dropout.
        """
        return self.errors(params, x0, x0, features, t, eps, dropout_keys)[0]

    def errors(
        self,
        params: Params,
        x0: jax.Array,
        source: jax.Array,
        features: jax.Array,
        t: jax.Array,
        eps: jax.Array,
        dropout_keys: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Computes (losses [R], mean squared errors [R], estimates of x0 [R, H, W, K]) of draws.

        The arguments are those of `denoising_losses`, and the mask that x_t is made of. The squared
        error of a logit is that of its probability.
        """
        x_t = jax.vmap(partial(add_noise, self.schedule))(source, t, eps)
        read = self.prediction.input(self.schedule, x_t, t)
        output = call(self.model, "denoise", params, read, t, features, dropout_keys)
        target = jax.vmap(partial(self.prediction.target, self.schedule))(x0, t, eps)
        if self.prediction.kind != "logit":
            losses = jnp.mean(jnp.square(output - target), (1, 2, 3))
            return losses, losses, self.prediction.read(self.schedule, x_t, t, output).x0
        z = self.prediction.logit(self.schedule, x_t, t, output)
        estimate = jnp.tanh(z / 2)
        mses = jnp.mean(jnp.square((estimate - target) / 2), (1, 2, 3))
        return jnp.mean(jax.nn.softplus(-target * z), (1, 2, 3)), mses, estimate

    def example_losses(
        self,
        params: Params,
        masks: jax.Array,
        features: jax.Array,
        keys: jax.Array,
        strata: jax.Array | None = None,
        weights: jax.Array | None = None,
    ) -> Losses:
        """Computes the mean error over the draws of each row."""
        draw_keys = jax.vmap(lambda key: jax.random.split(key, self.draws), out_axes=1)(keys)
        times = None if self.kind == "uniform" else self.times(keys, strata)  # [draws, B]
        if self.kind == "T+recycled":
            signed = to_signed(masks, self.channels)
            return self.recycled_losses(params, signed, features, draw_keys, times, weights)
        at_once = self.draws_at_once or self.draws
        signed = to_signed(masks, self.channels)
        x0 = jnp.concatenate([signed] * at_once)  # [at_once B, H, W, K]

        def denoise(operands: tuple[Params, jax.Array], randomness: Tree) -> tuple[jax.Array, Tree]:
            params, features = operands
            features = jnp.concatenate([features] * at_once)
            of_rows = jax.tree.map(lambda x: x.reshape(-1), randomness)
            t, eps, dropout_keys = jax.vmap(partial(self.draw, x0.shape[1:]))(*of_rows)
            losses, mses, _ = self.errors(params, x0, x0, features, t, eps, dropout_keys)
            return weighted_mean(losses, weights), (losses, mses)

        operands = without_encoder(params), features
        groups = self.draws // at_once, at_once, len(keys)
        randomness = jax.tree.map(lambda x: x.reshape(groups), (draw_keys, times))
        if groups[0] == 1:
            loss, of_draws = denoise(operands, jax.tree.map(lambda x: x[0], randomness))
        else:
            loss, of_draws = accumulate_mean(denoise, operands, randomness)
        losses, mses = (jnp.mean(x.reshape(self.draws, -1), axis=0) for x in of_draws)
        return loss, (losses, mses)

    def recycled_losses(
        self,
        params: Params,
        x0: jax.Array,
        features: jax.Array,
        draw_keys: jax.Array,
        times: jax.Array | None,
        weights: jax.Array | None,
    ) -> Losses:
        """Computes what `example_losses` does for "T+recycled"; holds the activations of all."""
        of_draws, source = [], x0
        first = x0
        assert times is not None
        for i in range(self.draws):
            t, eps, dropout_keys = jax.vmap(partial(self.draw, x0.shape[1:]))(
                draw_keys[i], times[i]
            )
            if i:
                chosen_keys = jax.vmap(jax.random.fold_in, (0, None))(draw_keys[i], 1)
                chosen = jax.vmap(partial(jax.random.bernoulli, p=self.recycled))(chosen_keys)
                chosen &= t <= self.recycled_until
                source = jnp.where(chosen[:, None, None, None], first, x0)
            losses, mses, estimate = self.errors(params, x0, source, features, t, eps, dropout_keys)
            first = first if i else jax.lax.stop_gradient(estimate)
            of_draws.append((losses, mses))
        losses, mses = (jnp.mean(jnp.stack(x), axis=0) for x in zip(*of_draws, strict=True))
        return weighted_mean(losses, weights), (losses, mses)

    def times(self, keys: jax.Array, strata: jax.Array | None) -> jax.Array:
        """Returns the t of draws [draws, B] that begin at T; the others are in 1..T - 1.

        The others of an image lie evenly from the stratum of its row.
        """
        if strata is None:
            strata = jax.vmap(jax.random.uniform)(jax.vmap(jax.random.fold_in, (0, None))(keys, 1))
        others = self.draws - 1
        u = (strata + jnp.arange(others)[:, None] / max(others, 1)) % 1.0
        T = self.schedule.T
        t = 1 + jnp.minimum((u * (T - 1)).astype(jnp.int32), T - 2)
        return jnp.concatenate([jnp.full((1, len(keys)), T, jnp.int32), t])

    def draw(
        self, shape: tuple[int, ...], key: jax.Array, t: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draws t [], if it is not given, and noise of a shape; returns the key of dropout too."""
        t_key, eps_key, dropout_key = jax.random.split(key, 3)
        if t is None:
            t = jax.random.randint(t_key, (), 1, self.schedule.T + 1)
        return t, jax.random.normal(eps_key, shape), dropout_key


@dataclass(frozen=True, kw_only=True)
class CrossEntropyObjective(Objective):
    """Computes the binary cross-entropy of a one-pass network's pixels."""

    def example_losses(
        self,
        params: Params,
        masks: jax.Array,
        features: jax.Array,
        keys: jax.Array,
        strata: jax.Array | None = None,
        weights: jax.Array | None = None,
    ) -> Losses:
        """Computes the cross-entropy in nats, and the squared error of the probability."""
        logits = call(self.model, "denoise", params, None, None, features, keys)
        logits, truth = (by_channel(x) for x in (logits, to_bits(masks, self.channels)))
        axes = tuple(range(1, logits.ndim))
        losses = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, truth), axes)
        mses = jnp.mean(jnp.square(jax.nn.sigmoid(logits) - truth), axes)
        return weighted_mean(losses, weights), (losses, mses)
