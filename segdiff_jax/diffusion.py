r"""The mathematics of diffusion on masks: forward process, predictions, reverse processes.

Letters are the paper's (arXiv 2112.00390, section 3): x0 in {-1, +1} is the mask, t runs from 1
to T, and

  x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps,    eps ~ N(0, 1)           (eq. 5)

with alpha_bar_0 = 1, so that entry 0 of every table is the clean mask. One reverse step leads
from t to any s < t. With beta = 1 - alpha_bar_t / alpha_bar_s both DDPM (eq. 10-13) and DDIM
(Song et al., arXiv 2010.02502, eq. 12) are a linear combination of x0, eps, x_t and new noise z:

  x_s = a x0 + b eps + c x_t + sigma z

so a reverse process is a table of four numbers a step, made in float64 on the host, and sampling is
one scan over its rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Variance = Literal["beta", "posterior"]
Kind = Literal["eps", "x0", "v"]


@dataclass(frozen=True)
class Schedule:
    """How much of the mask is left after t steps.

    Attributes:
      alpha_bar: float64 [T + 1], from 1 at t = 0 down to nearly 0 at t = T.
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
      ValueError: a beta is outside (0, 1): at 1 the signal is gone and x0 cannot be estimated.
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


def add_noise(schedule: Schedule, x0: jax.Array, t: jax.Array, eps: jax.Array) -> jax.Array:
    """Returns x_t (eq. 5). x0, eps: [..., H, W, 1] float32; t: [...] int32 in 0..T."""
    return _pixels(schedule.signal(t)) * x0 + _pixels(schedule.noise(t)) * eps


class Estimate(NamedTuple):
    """What is believed about x_t: x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps.

    Samplers take this and never a network's raw output, so eps, x0 and v cannot be mixed up.
    """

    x0: jax.Array
    eps: jax.Array


@dataclass(frozen=True)
class Prediction:
    """What the output of the network means.

    Attributes:
      kind: "eps" (paper, eq. 18), "x0", or "v" = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0
        (Salimans and Ho, arXiv 2202.00512).
      clip: clip estimates of x0 to [-1, 1]; eps is made to agree. Off in the authors' settings.
    """

    kind: Kind = "eps"
    clip: bool = False

    def __post_init__(self) -> None:
        """Refuses an unknown kind."""
        if self.kind not in ("eps", "x0", "v"):
            raise ValueError(f"prediction is {self.kind!r}; allowed: 'eps', 'x0', 'v'")

    def target(self, schedule: Schedule, x0: jax.Array, t: jax.Array, eps: jax.Array) -> jax.Array:
        """Returns what the network should have said. Shapes as in `add_noise`."""
        if self.kind == "eps":
            return eps
        if self.kind == "x0":
            return x0
        return _pixels(schedule.signal(t)) * eps - _pixels(schedule.noise(t)) * x0

    def read(self, schedule: Schedule, x_t: jax.Array, t: jax.Array, output: jax.Array) -> Estimate:
        """Returns the estimate that the network's output [..., H, W, 1] stands for; t >= 1."""
        signal, noise = _pixels(schedule.signal(t)), _pixels(schedule.noise(t))
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


class Steps(NamedTuple):
    """A reverse process as a table, one row a step: x_s = a x0 + b eps + c x_t + sigma z.

    t is int32 [n], falling from T; the rest is float32 [n]. The last row leads to s = 0.
    """

    t: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    sigma: np.ndarray


def respaced(T: int, steps: int) -> np.ndarray:
    """Returns the times a reverse process of `steps` steps visits: int [steps + 1], T..0, even.

    Raises:
      ValueError: steps is not in 1..T.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"{steps} reverse steps asked for; allowed: 1..{T}")
    return np.rint(np.linspace(T, 0, steps + 1)).astype(np.int32)


def ddpm(schedule: Schedule, times: np.ndarray, variance: Variance) -> Steps:
    """Returns ancestral sampling (paper, Alg. 1) along falling times, the last of them 0.

    Args:
      schedule: of the forward process.
      times: int [n + 1], as made by `respaced`.
      variance: of z, "beta" (the authors' code) or "posterior" (the paper's beta-tilde, eq. 13).
    """
    t, at, as_ = _ends(schedule, times)
    beta = 1 - at / as_
    posterior = beta * (1 - as_) / (1 - at)
    sigma = np.sqrt({"beta": beta, "posterior": posterior}[variance]) * (times[1:] > 0)
    a = beta * np.sqrt(as_) / (1 - at)
    c = (1 - as_) * np.sqrt(at / as_) / (1 - at)
    return _steps(t, a, np.zeros_like(a), c, sigma)


def ddim(schedule: Schedule, times: np.ndarray, eta: float) -> Steps:
    """Returns DDIM (arXiv 2010.02502, eq. 12, 16) along falling times, the last of them 0.

    Args:
      schedule: of the forward process.
      times: int [n + 1], as made by `respaced`.
      eta: 0 is deterministic after x_T, 1 as noisy as `ddpm` with the posterior variance.
    """
    t, at, as_ = _ends(schedule, times)
    sigma = eta * np.sqrt((1 - as_) / (1 - at) * (1 - at / as_))
    # rounding may leave -1e-17 under the root at s = 0
    b = np.sqrt(np.maximum(1 - as_ - sigma**2, 0.0))
    return _steps(t, np.sqrt(as_), b, np.zeros_like(b), sigma)


Denoiser = Callable[[jax.Array, jax.Array], Estimate]  # (x_t [..., H, W, 1], t []) -> Estimate
Noise = Callable[[jax.Array], jax.Array]  # number of the step, 0..n - 1 -> z, as x_t


def reverse(steps: Steps, denoise: Denoiser, x_T: jax.Array, noise: Noise) -> jax.Array:
    """Returns x0 [..., H, W, 1] float32, starting from x_T of that shape.

    One `lax.scan` over the rows of the table; `denoise` is called once a row.
    """

    def step(x_t: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        i, t, a, b, c, sigma = row
        x0, eps = denoise(x_t, t)
        return a * x0 + b * eps + c * x_t + sigma * noise(i), None

    rows = (jnp.arange(len(steps.t)), *map(jnp.asarray, steps))
    return jax.lax.scan(step, x_T, rows)[0]


def sample(steps: Steps, denoise: Denoiser, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns x0 of the given shape from noise that is a function of the key alone."""

    def gaussian(i: jax.Array | int) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, i), shape)

    return reverse(steps, denoise, gaussian(0), lambda i: gaussian(i + 1))


def _ends(schedule: Schedule, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns t, alpha_bar at t and alpha_bar at s for each step of the times."""
    if times[-1] != 0 or np.any(np.diff(times) >= 0):
        raise ValueError(f"times must fall strictly to 0; got {list(times)}")
    return times[:-1], schedule.alpha_bar[times[:-1]], schedule.alpha_bar[times[1:]]


def _steps(t: np.ndarray, *columns: np.ndarray) -> Steps:
    return Steps(t.astype(np.int32), *(column.astype(np.float32) for column in columns))


def _pixels(per_example: jax.Array) -> jax.Array:
    return per_example[..., None, None, None]
