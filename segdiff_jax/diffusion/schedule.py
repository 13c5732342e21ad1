"""Defines the forward process: noise schedules, and x_t given x0."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Schedule:
    """A noise schedule.

    Attributes:
      alpha_bar: float64 [T + 1], the share of signal variance left after t steps, from 1 at t = 0
        down to nearly 0 at t = T.
    """

    alpha_bar: np.ndarray

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.alpha_bar) - 1

    def signal(self, t: jax.Array) -> jax.Array:
        """Returns sqrt(alpha_bar_t), float32 with the shape of t (integers in 0..T)."""
        return jnp.asarray(np.sqrt(self.alpha_bar), jnp.float32)[t]

    def noise(self, t: jax.Array) -> jax.Array:
        """Returns sqrt(1 - alpha_bar_t), float32 with the shape of t (integers in 0..T)."""
        return jnp.asarray(np.sqrt(1 - self.alpha_bar), jnp.float32)[t]


def make_schedule(beta: np.ndarray) -> Schedule:
    """Returns the schedule of beta_1..beta_T.

    Args:
      beta: [T], the variance added by each step; all inside (0, 1).

    Raises:
      ValueError: a beta is outside (0, 1); at 1 no signal is left and x0 cannot be estimated.
    """
    beta = np.asarray(beta, np.float64)
    bad = np.flatnonzero(~((beta > 0) & (beta < 1)))
    if bad.size:
        raise ValueError(
            f"beta_{bad[0] + 1} of {beta.size} is {beta[bad[0]]:.4g}; every beta must lie inside "
            "(0, 1)"
        )
    return Schedule(np.concatenate([[1.0], np.cumprod(1 - beta)]))


def linear_schedule(T: int, *, scaled: bool = True) -> Schedule:
    """Returns the linear schedule, 1e-4..2e-2 (paper, eq. 14).

    Args:
      T: the number of steps.
      scaled: multiply by 1000 / T, as the authors' code does, so that x_T is nearly pure noise
        whatever T is; needs T >= 21. False is the paper's literal text.
    """
    scale = 1000 / T if scaled else 1.0
    beta = np.linspace(scale * 1e-4, scale * 2e-2, T)
    if beta[-1] >= 1:
        raise ValueError(
            f"the linear schedule with T = {T} reaches beta = {beta[-1]:.4g}, which must be below "
            "1; allowed: T >= 21, or the cosine schedule"
        )
    return make_schedule(beta)


def cosine_schedule(T: int) -> Schedule:
    """Returns the schedule of Nichol and Dhariwal (arXiv 2102.09672, eq. 17), beta <= 0.999."""
    u = (np.arange(T + 1) / T + 0.008) / 1.008
    alpha_bar = np.cos(u * np.pi / 2) ** 2
    return make_schedule(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999))


def with_signal_scale(schedule: Schedule, b: float) -> Schedule:
    """Returns the schedule of masks in {-b, +b}, rescaled to {-1, +1}.

    x_t = b sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps, divided by its norm, is the forward
    process of alpha_bar_b = b^2 alpha_bar / ((b^2 - 1) alpha_bar + 1). Below 1 the mask drowns in
    noise at smaller t, so that more of the t need the image (Chen, arXiv 2301.10972).

    Args:
      schedule: of the forward process at b = 1.
      b: above 0.
    """
    a = schedule.alpha_bar
    return schedule if b == 1 else Schedule(b**2 * a / (b**2 * a + (1 - a)))


def add_noise(schedule: Schedule, x0: jax.Array, t: jax.Array, eps: jax.Array) -> jax.Array:
    """Returns x_t (eq. 5). x0, eps: [..., H, W, 1] float32; t: [...] int32 in 0..T."""
    return pixels(schedule.signal(t)) * x0 + pixels(schedule.noise(t)) * eps


def pixels(per_example: jax.Array) -> jax.Array:
    """Reshapes [...] to [..., 1, 1, 1], which broadcasts against [..., H, W, 1]."""
    return per_example[..., None, None, None]
