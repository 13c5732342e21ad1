"""The logit head, the skip of Bayes' rule, the signal scale and the spacing of steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from segdiff_jax.diffusion import (
    Prediction,
    add_noise,
    linear_schedule,
    respaced_by_snr,
    with_signal_scale,
)

SCHEDULE = linear_schedule(100)
RANDOM = np.random.default_rng(0)


def masks(shape):
    return jnp.asarray(RANDOM.choice([-1.0, 1.0], shape), jnp.float32)


def test_a_logit_gives_the_mean_of_the_mask_and_the_noise_that_leads_to_x_t():
    x_t, z = (jnp.asarray(RANDOM.normal(size=(5, 4, 4, 1)), jnp.float32) for _ in range(2))
    t = jnp.array([1, 20, 50, 80, 100])
    x0, eps = Prediction("logit").read(SCHEDULE, x_t, t, z)
    p = 1 / (1 + np.exp(-np.float64(z)))
    np.testing.assert_allclose(x0, 2 * p - 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(add_noise(SCHEDULE, x0, t, eps), x_t, rtol=0, atol=1e-5)


@pytest.mark.parametrize("b", [1.0, 0.3])
@pytest.mark.parametrize("t", [1, 40, 100])
def test_with_the_skip_a_constant_prior_gives_the_exact_posterior_of_independent_pixels(b, t):
    """By Bayes' rule with SciPy's densities of the normal distribution."""
    schedule, prior = with_signal_scale(SCHEDULE, b), 0.2
    signal, noise = np.sqrt(schedule.alpha_bar[t]), np.sqrt(1 - schedule.alpha_bar[t])
    # where both densities are in float64's reach
    x_t = jnp.linspace(-2, 2, 41).reshape(1, 41, 1, 1) * min(noise, 1.0)
    f = jnp.full(x_t.shape, np.log(prior / (1 - prior)))
    x = np.float64(x_t)
    foreground = prior * stats.norm.pdf(x, signal, noise)
    background = (1 - prior) * stats.norm.pdf(x, -signal, noise)
    exact = (foreground - background) / (foreground + background)
    head = Prediction("logit", bayes_skip=True)
    found = head.read(schedule, x_t, jnp.array([t]), f).x0
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-6)


def test_without_knowledge_the_skip_alone_is_calibrated():
    """Of the pixels to which f = 0 gives the probability p, a share p is foreground."""
    x0 = masks((1, 400, 400, 1))
    t = jnp.array([25])
    x_t = add_noise(SCHEDULE, x0, t, jax.random.normal(jax.random.key(0), x0.shape))
    head = Prediction("logit", bayes_skip=True)
    p = np.asarray(head.read(SCHEDULE, x_t, t, jnp.zeros_like(x0)).x0 + 1).ravel() / 2
    for low in np.arange(0, 1, 0.2):
        inside = (low <= p) & (p < low + 0.2)
        share, error = (np.asarray(x0).ravel()[inside] > 0).mean(), 0.5 / np.sqrt(inside.sum())
        assert inside.sum() > 1000 and abs(share - p[inside].mean()) < 5 * error


def test_the_network_may_read_zeros_at_t_of_pure_noise_and_x_t_elsewhere():
    x_t, t = jnp.ones((3, 2, 2, 1)), jnp.array([1, 99, 100])
    read = Prediction("logit", zero_noise=True).input(SCHEDULE, x_t, t)
    np.testing.assert_array_equal(read[:, 0, 0, 0], [1, 1, 0])


def test_the_network_of_the_paper_reads_x_t_itself():
    x_t = jnp.ones((1, 2, 2, 1))
    assert Prediction().input(SCHEDULE, x_t, jnp.array([100])) is x_t


def test_the_skip_needs_a_logit():
    with pytest.raises(ValueError, match="needs 'logit'"):
        Prediction("x0", bayes_skip=True)


def test_a_signal_scale_is_the_forward_process_of_smaller_masks_at_unit_variance():
    """Against the ratio of signal to noise, b^2 times the one of b = 1, by hand."""
    scaled = with_signal_scale(SCHEDULE, 0.3).alpha_bar
    one = SCHEDULE.alpha_bar[1:]
    np.testing.assert_allclose(scaled[1:] / (1 - scaled[1:]), 0.09 * one / (1 - one), rtol=1e-12)
    assert scaled[0] == 1


def test_a_signal_scale_of_1_is_the_schedule_itself():
    assert with_signal_scale(SCHEDULE, 1.0) is SCHEDULE


@pytest.mark.parametrize("steps", [1, 2, 5, 25, 60, 99, 100])
@pytest.mark.parametrize("b", [1.0, 0.1])
def test_times_by_snr_fall_strictly_to_0(steps, b):
    times = respaced_by_snr(with_signal_scale(SCHEDULE, b), steps)
    assert times.shape == (steps + 1,) and times[0] == 100 and times[-1] == 0
    assert (np.diff(times) < 0).all()


def test_times_by_snr_are_even_in_its_logarithm():
    a = SCHEDULE.alpha_bar
    times = respaced_by_snr(SCHEDULE, 6)[:-1]
    log_snr = np.log(a[times] / (1 - a[times]))
    wanted = np.linspace(log_snr[0], log_snr[-1], 6)
    # a time is rounded by half a step of t, whose log SNR is nowhere wider than this
    widest = np.abs(np.diff(np.log(a[1:] / (1 - a[1:]))))[times[1:-1] - 1].max()
    assert np.abs(log_snr - wanted).max() <= widest


@pytest.mark.parametrize("steps", [0, 101])
def test_no_other_number_of_steps_is_spaced(steps):
    with pytest.raises(ValueError, match=r"1\.\.100"):
        respaced_by_snr(SCHEDULE, steps)
