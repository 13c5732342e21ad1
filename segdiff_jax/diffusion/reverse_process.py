"""Computes reverse processes: DDPM and DDIM as tables of steps, and the scan over them."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax.diffusion.noise import Noise
from segdiff_jax.diffusion.parameterization import Estimate
from segdiff_jax.diffusion.schedule import Schedule

Variance = Literal["beta", "posterior"]
Spacing = Literal["even", "snr"]


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
        raise ValueError(f"{steps} reverse steps; allowed: 1..{T}")
    return np.rint(np.linspace(T, 0, steps + 1)).astype(np.int32)


def respaced_by_snr(schedule: Schedule, steps: int) -> np.ndarray:
    """Returns times as `respaced` does, even in the logarithm of the signal-to-noise ratio.

    They lie between t = T and t = 1, from which the last step goes to 0. Where two would fall on
    the same t, the later ones move on to the next that is free.

    Raises:
      ValueError: steps is not in 1..T.
    """
    T = schedule.T
    if not 1 <= steps <= T:
        raise ValueError(f"{steps} reverse steps; allowed: 1..{T}")
    log_snr = np.log(schedule.alpha_bar[1:]) - np.log1p(-schedule.alpha_bar[1:])  # of 1..T, falling
    wanted = np.linspace(log_snr[-1], log_snr[0], steps)
    times = np.rint(np.interp(wanted, log_snr[::-1], np.arange(T, 0, -1))).astype(np.int64)
    falling = np.arange(steps)
    times = np.minimum.accumulate(times + falling) - falling  # strictly
    times = np.maximum(times, np.arange(steps, 0, -1))  # and at least 1 at the end
    return np.append(times, 0).astype(np.int32)


def ddpm(schedule: Schedule, times: np.ndarray, variance: Variance) -> Steps:
    """Returns ancestral sampling (paper, Alg. 1) along falling times, the last of them 0.

    Args:
      schedule: of the forward process.
      times: int [n + 1], see `respaced`.
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
      times: int [n + 1], see `respaced`.
      eta: 0 is deterministic after x_T, 1 as noisy as `ddpm` with the posterior variance.
    """
    t, at, as_ = _ends(schedule, times)
    sigma = eta * np.sqrt((1 - as_) / (1 - at) * (1 - at / as_))
    # rounding may leave -1e-17 under the root at s = 0
    b = np.sqrt(np.maximum(1 - as_ - sigma**2, 0.0))
    return _steps(t, np.sqrt(as_), b, np.zeros_like(b), sigma)


Denoiser = Callable[[jax.Array, jax.Array], Estimate]  # (x_t [..., H, W, 1], t []) -> Estimate


def reverse(
    steps: Steps, denoise: Denoiser, x_T: jax.Array, z: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Returns x0 [..., H, W, 1] float32, starting from x_T of that shape.

    One `lax.scan` over the rows of the table; `denoise` is called once a row. z: index of the
    step, 0..n - 1 -> noise, of the shape of x_t.
    """
    return _scan(steps, denoise, x_T, z, keep=False)[0]


def _scan(
    steps: Steps,
    denoise: Denoiser,
    x_T: jax.Array,
    z: Callable[[jax.Array], jax.Array],
    keep: bool,
) -> tuple[jax.Array, jax.Array | None]:
    """Returns (x0, the estimates of x0 at every step [n, ..., H, W, 1] if `keep`)."""

    def step(x_t: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array | None]:
        i, t, a, b, c, sigma = row
        x0, eps = denoise(x_t, t)
        return a * x0 + b * eps + c * x_t + sigma * z(i), x0 if keep else None

    rows = (jnp.arange(len(steps.t)), *map(jnp.asarray, steps))
    return jax.lax.scan(step, x_T, rows)


def sample(steps: Steps, denoise: Denoiser, noise: Noise) -> jax.Array:
    """Samples x0 from pure noise; `noise` maps 0 to x_T and i + 1 to z of step i."""
    return reverse(steps, denoise, noise(0), lambda i: noise(i + 1))


def estimates(steps: Steps, denoise: Denoiser, noise: Noise) -> jax.Array:
    """Returns the estimates of x0 along the chain of `sample`, [n, ..., H, W, 1].

    The i-th is the network's estimate at steps.t[i]. The last step goes to its own estimate, so the
    last of them equals the result of `sample`.
    """
    found = _scan(steps, denoise, noise(0), lambda i: noise(i + 1), keep=True)[1]
    assert found is not None
    return found


def _ends(schedule: Schedule, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns t, alpha_bar at t and alpha_bar at s for each step of the times."""
    if times[-1] != 0 or np.any(np.diff(times) >= 0):
        raise ValueError(f"times must fall strictly to 0; got {list(times)}")
    return times[:-1], schedule.alpha_bar[times[:-1]], schedule.alpha_bar[times[1:]]


def _steps(t: np.ndarray, *columns: np.ndarray) -> Steps:
    return Steps(t.astype(np.int32), *(column.astype(np.float32) for column in columns))
