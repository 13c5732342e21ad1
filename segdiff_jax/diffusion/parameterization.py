"""Converts between the network's output (eps, x0 or v) and estimates of x0 and eps."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from segdiff_jax.diffusion.schedule import Schedule, pixels

Kind = Literal["eps", "x0", "v"]


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
      kind: "eps" (paper, eq. 18), "x0", or "v" = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0
        (Salimans and Ho, arXiv 2202.00512).
      clip: clip estimates of x0 to [-1, 1] and recompute eps; off in the authors' settings.
    """

    kind: Kind = "eps"
    clip: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown kind."""
        if self.kind not in ("eps", "x0", "v"):
            raise ValueError(f"prediction is {self.kind!r}; allowed: 'eps', 'x0', 'v'")

    def target(self, schedule: Schedule, x0: jax.Array, t: jax.Array, eps: jax.Array) -> jax.Array:
        """Returns the regression target of the network. Shapes as in `add_noise`."""
        if self.kind == "eps":
            return eps
        if self.kind == "x0":
            return x0
        return pixels(schedule.signal(t)) * eps - pixels(schedule.noise(t)) * x0

    def read(self, schedule: Schedule, x_t: jax.Array, t: jax.Array, output: jax.Array) -> Estimate:
        """Converts the network's output [..., H, W, 1] to an estimate; t >= 1."""
        signal, noise = pixels(schedule.signal(t)), pixels(schedule.noise(t))
        if self.kind == "eps":
            estimate = Estimate((x_t - noise * output) / signal, output)
        elif self.kind == "x0":
            estimate = Estimate(output, (x_t - signal * output) / noise)
        else:
            estimate = Estimate(signal * x_t - noise * output, noise * x_t + signal * output)
        if not self.clip:
            return estimate
        x0 = jnp.clip(estimate.x0, -1.0, 1.0)
        return Estimate(x0, (x_t - signal * x0) / noise)
