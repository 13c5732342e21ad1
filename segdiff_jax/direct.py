"""The deterministic twin: the mask in one pass, without diffusion, and what it is trained by.

It is the baseline beside diffusion: the same data, augmentation, optimizer, averaged weights, tiles
and report. The network's output is the logit of a pixel being foreground.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from segdiff_jax.data.augment import Augment
from segdiff_jax.loss import Loss, Params
from segdiff_jax.models.segdiff import SegDiff, call
from segdiff_jax.sampler import Answerer


@dataclass(frozen=True)
class DirectObjective(Loss):
    """The binary cross-entropy of the pixels; attributes as in `loss.Loss`."""

    model: SegDiff
    augment: Augment
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reduction: str = "sum"

    def errors(
        self, params: Params, masks: jax.Array, features: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Returns the cross-entropy in nats, and of each row with the squared error; see `Loss`.

        The squared error is that of the probability.
        """
        logits = call(self.model, "denoise", params, None, None, features, keys)
        logits, truth = logits[..., 0], masks.astype(jnp.float32)
        errors = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, truth), (1, 2))
        mses = jnp.mean(jnp.square(jax.nn.sigmoid(logits) - truth), (1, 2))
        return jnp.mean(errors), (errors, mses)


@dataclass(frozen=True, eq=False)
class DirectSampler(Answerer):
    """One pass of the network; attributes as in `sampler.Answerer`."""

    model: SegDiff
    mean: tuple[float, ...]
    std: tuple[float, ...]
    random: ClassVar[bool] = False

    def draw(
        self, params: Params, features: jax.Array, key: jax.Array, corner: jax.Array
    ) -> jax.Array:
        """The probability of each pixel, whatever the key and the corner; see `Answerer`."""
        logits = call(self.model, "denoise", params, None, None, features[None])
        return jax.nn.sigmoid(logits[0, ..., 0])
