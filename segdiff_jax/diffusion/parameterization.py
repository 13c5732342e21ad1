r"""Converts the network's output (eps, x0, v or a logit) to estimates of x0 and eps.

With a logit the skip of Bayes' rule may be added. For a mask of -1 and +1 whose pixels are
independent given the image, with prior log odds f of +1, the posterior log odds given x_t are

  z = f + log N(x_t; S, N^2) - log N(x_t; -S, N^2) = f + 2 S x_t / N^2,

S = sqrt(alpha_bar_t) and N^2 = 1 - alpha_bar_t: the evidence of the pixel itself needs no learning.
The network's f has to hold only what the image and the other pixels of x_t say.

At t = T the network may read zeros in place of x_T. Nothing of the mask is in x_T, so nothing is
lost: what a network without x_t learns is learnt there, undisturbed by noise.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from segdiff_jax.diffusion.schedule import Schedule, pixels

Kind = Literal["eps", "x0", "v", "logit"]
KINDS = ("eps", "x0", "v", "logit")


class Estimate(NamedTuple):
    """An estimate of (x0, eps) with x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps.

    Samplers take this and never a network's raw output, so eps, x0 and v cannot be confused.
    """

    x0: jax.Array
    eps: jax.Array


@dataclass(frozen=True)
class Prediction:
    """Defines what the network's output parameterises.

    Attributes:
      kind: "eps" (paper, eq. 18), "x0", "v" = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0
        (Salimans and Ho, arXiv 2202.00512), or "logit": the log odds z that a pixel is +1, of
        which x0 = tanh(z / 2) is the mean.
      clip: clip estimates of x0 to [-1, 1] and recompute eps; off in the authors' settings.
      bayes_skip: whether 2 S x_t / N^2 is added to the output; with "logit" only.
      zero_noise: whether the network reads zeros at t = T.
    """

    kind: Kind = "eps"
    clip: bool = False
    bayes_skip: bool = False
    zero_noise: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown kind, or a skip of one that is no logit."""
        if self.kind not in KINDS:
            allowed = ", ".join(map(repr, KINDS))
            raise ValueError(f"prediction is {self.kind!r}; allowed: {allowed}")
        if self.bayes_skip and self.kind != "logit":
            raise ValueError(f"prediction is {self.kind!r}; the skip of Bayes' rule needs 'logit'")

    def input(self, schedule: Schedule, x_t: jax.Array, t: jax.Array) -> jax.Array:
        """Converts x_t [..., H, W, 1] to what the network reads; t >= 1."""
        return jnp.where(pixels(t) < schedule.T, x_t, 0.0) if self.zero_noise else x_t

    def logit(
        self, schedule: Schedule, x_t: jax.Array, t: jax.Array, output: jax.Array
    ) -> jax.Array:
        """Returns the log odds z that a pixel is +1, of a network with that output; t >= 1."""
        if not self.bayes_skip:
            return output
        evidence = 2 * schedule.signal(t) / jnp.square(schedule.noise(t))
        return output + pixels(evidence) * x_t

    def target(self, schedule: Schedule, x0: jax.Array, t: jax.Array, eps: jax.Array) -> jax.Array:
        """Returns the regression target of the network. Shapes as in `add_noise`.

        The x0 of a logit is the target of its cross-entropy.
        """
        if self.kind == "eps":
            return eps
        if self.kind in ("x0", "logit"):
            return x0
        return pixels(schedule.signal(t)) * eps - pixels(schedule.noise(t)) * x0

    def read(self, schedule: Schedule, x_t: jax.Array, t: jax.Array, output: jax.Array) -> Estimate:
        """Converts the network's output [..., H, W, 1] to an estimate; t >= 1."""
        signal, noise = pixels(schedule.signal(t)), pixels(schedule.noise(t))
        if self.kind == "eps":
            estimate = Estimate((x_t - noise * output) / signal, output)
        elif self.kind == "x0":
            estimate = Estimate(output, (x_t - signal * output) / noise)
        elif self.kind == "logit":
            return self.given(schedule, x_t, t, jnp.tanh(self.logit(schedule, x_t, t, output) / 2))
        else:
            estimate = Estimate(signal * x_t - noise * output, noise * x_t + signal * output)
        if not self.clip:
            return estimate
        return self.given(schedule, x_t, t, jnp.clip(estimate.x0, -1.0, 1.0))

    @staticmethod
    def given(schedule: Schedule, x_t: jax.Array, t: jax.Array, x0: jax.Array) -> Estimate:
        """Returns the estimate with this x0 and the eps that leads from it to x_t; t >= 1."""
        signal, noise = pixels(schedule.signal(t)), pixels(schedule.noise(t))
        return Estimate(x0, (x_t - signal * x0) / noise)
