"""Schedules, predictions and reverse processes against tables, closed forms and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from authors_network import golden

from segdiff_jax.diffusion import (
    Estimate,
    Prediction,
    Steps,
    add_noise,
    cosine_schedule,
    ddim,
    ddpm,
    field,
    gaussian,
    linear_schedule,
    make_schedule,
    respaced,
    reverse,
    sample,
)

KINDS = ["eps", "x0", "v"]
EVERY = respaced(100, 100)


def test_the_linear_schedule_and_its_reverse_steps_are_the_authors_tables():
    g = golden("unet_a")
    schedule = linear_schedule(100)
    np.testing.assert_allclose(schedule.alpha_bar[1:], g["sched100_alphas_cumprod"], rtol=1e-12)
    backwards = slice(None, None, -1)
    steps = ddpm(schedule, EVERY, "posterior")
    np.testing.assert_allclose(steps.a, g["sched100_posterior_mean_coef1"][backwards], rtol=1e-6)
    np.testing.assert_allclose(steps.c, g["sched100_posterior_mean_coef2"][backwards], rtol=1e-6)
    np.testing.assert_allclose(
        steps.sigma**2, g["sched100_posterior_variance"][backwards], rtol=1e-6, atol=1e-12
    )
    large = ddpm(schedule, EVERY, "beta").sigma
    np.testing.assert_allclose(large[:-1] ** 2, g["sched100_betas"][backwards][:-1], rtol=1e-6)
    assert large[-1] == 0


@pytest.mark.parametrize("beta", [0.0, -0.1, 1.0, 1.5, np.nan])
def test_a_beta_outside_the_unit_interval_is_refused_by_its_number(beta):
    with pytest.raises(ValueError, match="beta_2 of 3"):
        make_schedule(np.array([0.1, beta, 0.2]))


@pytest.mark.parametrize("T", [2, 10, 19, 20])
def test_the_scaled_linear_schedule_is_refused_below_21_steps(T):
    with pytest.raises(ValueError, match="T >= 21"):
        linear_schedule(T)


def test_21_scaled_steps_work():
    assert 0 < linear_schedule(21).alpha_bar[-1] < 1e-3


def test_the_papers_literal_schedule_leaves_36_percent_of_the_signal():
    # the product of 1 - beta over linspace(1e-4, 2e-2, 100), by its logarithm
    beta = 1e-4 + (2e-2 - 1e-4) * np.arange(100) / 99
    left = linear_schedule(100, scaled=False).alpha_bar[-1]
    assert left == pytest.approx(np.exp(np.log1p(-beta).sum()), rel=1e-12)
    assert left == pytest.approx(0.3636, abs=1e-4)


def test_the_cosine_schedule_follows_its_closed_form_until_beta_is_capped():
    T = 50
    u = (np.arange(T + 1) / T + 0.008) / 1.008
    closed = np.cos(u * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    made = cosine_schedule(T).alpha_bar
    np.testing.assert_allclose(made[:-1], closed[:-1], rtol=1e-9)
    assert made[-1] == pytest.approx(0.001 * made[-2])


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_output_is_read_as_the_true_mask_and_noise(kind):
    schedule, prediction = linear_schedule(100), Prediction(kind)
    key = jax.random.key(0)
    x0 = jnp.sign(jax.random.normal(key, (5, 4, 4, 1)))
    eps = jax.random.normal(jax.random.key(1), x0.shape)
    t = jnp.array([1, 2, 50, 80, 100])
    x_t = add_noise(schedule, x0, t, eps)
    read = prediction.read(schedule, x_t, t, prediction.target(schedule, x0, t, eps))
    signal = np.sqrt(schedule.alpha_bar[t])[:, None, None, None]
    noise = np.sqrt(1 - schedule.alpha_bar[t])[:, None, None, None]
    # what is divided by is what rounding grows by
    np.testing.assert_allclose(signal * read.x0, signal * x0, rtol=0, atol=1e-5)
    np.testing.assert_allclose(noise * read.eps, noise * eps, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clipped_estimate_still_adds_up_to_x_t(kind):
    schedule = linear_schedule(100)
    x_t = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
    t = jnp.array([3, 50, 90])
    output = 3 * jax.random.normal(jax.random.key(1), x_t.shape)
    read = Prediction(kind, clip=True).read(schedule, x_t, t, output)
    assert np.abs(read.x0).max() <= 1
    np.testing.assert_allclose(add_noise(schedule, read.x0, t, read.eps), x_t, atol=1e-5)


def test_an_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="'score'.*'eps', 'x0', 'v'"):
        Prediction("score")


def test_ddim_with_full_noise_is_ddpm_with_the_posterior_variance():
    schedule = linear_schedule(100)
    one, other = ddpm(schedule, EVERY, "posterior"), ddim(schedule, EVERY, 1.0)
    np.testing.assert_allclose(one.sigma, other.sigma, atol=1e-7)
    rng = np.random.default_rng(0)
    for i, t in enumerate(one.t):
        x0, eps = rng.normal(size=2)
        x_t = np.sqrt(schedule.alpha_bar[t]) * x0 + np.sqrt(1 - schedule.alpha_bar[t]) * eps
        means = [s.a[i] * x0 + s.b[i] * eps + s.c[i] * x_t for s in (one, other)]
        assert means[0] == pytest.approx(means[1], abs=2e-6)


def test_ddim_without_noise_is_deterministic_after_its_start():
    steps = ddim(linear_schedule(100), respaced(100, 10), 0.0)
    assert not steps.sigma.any()


def test_respaced_ddpm_has_the_variance_of_the_steps_it_skips():
    schedule, times = linear_schedule(100), respaced(100, 10)
    for i, (t, s) in enumerate(zip(times[:-2], times[1:-1], strict=True)):
        # x_t given x_s, composed of the single steps between
        beta = 1 - np.prod(
            [schedule.alpha_bar[u] / schedule.alpha_bar[u - 1] for u in range(s + 1, t + 1)]
        )
        assert ddpm(schedule, times, "beta").sigma[i] ** 2 == pytest.approx(beta, rel=1e-5)


@pytest.mark.parametrize("steps", [1, 3, 10, 99, 100])
def test_respaced_times_fall_evenly_to_0(steps):
    times = respaced(100, steps)
    gaps = -np.diff(times)
    assert times[0] == 100 and times[-1] == 0 and len(times) == steps + 1
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("steps", [0, -1, 101])
def test_more_reverse_steps_than_there_are_or_none_are_refused(steps):
    with pytest.raises(ValueError, match=r"allowed: 1\.\.100"):
        respaced(100, steps)


def test_times_that_do_not_fall_to_0_are_refused():
    with pytest.raises(ValueError, match="fall strictly to 0"):
        ddpm(linear_schedule(100), np.array([100, 50, 50, 0]), "beta")


@pytest.mark.parametrize("n", [1, 5, 100])
@pytest.mark.parametrize("make", ["beta", "posterior", 0.0, 1.0])
def test_a_denoiser_that_knows_the_mask_brings_it_back(make, n):
    schedule, times = linear_schedule(100), respaced(100, n)
    steps = ddpm(schedule, times, make) if isinstance(make, str) else ddim(schedule, times, make)
    mask = jnp.sign(jax.random.normal(jax.random.key(3), (8, 8, 1)))

    def denoise(x_t, t):
        return Prediction("x0").read(schedule, x_t, t, mask)

    x0 = sample(steps, denoise, gaussian(jax.random.key(0), mask.shape))
    np.testing.assert_allclose(x0, mask, atol=1e-5)


@pytest.mark.parametrize(
    ("variance", "eta"), [("beta", None), ("posterior", None), (None, 0.0), (None, 1.0)]
)
def test_gaussian_data_are_sampled_with_their_mean_and_spread(variance, eta):
    """For x0 ~ N(m, s^2) the best denoiser has a closed form, and samples must be of that law."""
    mean, spread = 0.4, 0.5
    schedule = cosine_schedule(400)
    times = respaced(400, 400)
    steps = ddim(schedule, times, eta) if variance is None else ddpm(schedule, times, variance)

    def denoise(x_t, t):
        signal, noise = schedule.signal(t), schedule.noise(t)
        gain = signal * spread**2 / (signal**2 * spread**2 + noise**2)
        x0 = mean + gain * (x_t - signal * mean)
        return Estimate(x0, (x_t - signal * x0) / noise)

    x0 = sample(steps, denoise, gaussian(jax.random.key(0), (200, 200, 1)))
    assert float(x0.mean()) == pytest.approx(mean, abs=0.01)
    assert float(x0.std()) == pytest.approx(spread, rel=0.03)


def test_a_sample_depends_on_its_key_alone_and_not_on_its_neighbours():
    schedule = linear_schedule(100)
    steps = ddpm(schedule, respaced(100, 4), "beta")

    def one(key):
        return sample(steps, lambda x, t: Estimate(0.5 * x, x), gaussian(key, (6, 6, 1)))

    keys = jax.random.split(jax.random.key(0), 5)
    together = jax.vmap(one)(keys)
    assert len(np.unique(np.asarray(together)[:, 0, 0, 0])) == 5
    for key, row in zip(keys, together, strict=True):
        np.testing.assert_allclose(one(key), row, rtol=1e-6)


def test_noise_of_different_steps_is_different():
    """With weights that only add noise, n steps of unit noise have variance n."""
    n = 50
    ones, zeros = np.ones(n, np.float32), np.zeros(n, np.float32)
    table = Steps(np.arange(n, 0, -1, dtype=np.int32), zeros, zeros, ones, ones)
    x = sample(table, lambda x, t: Estimate(x, x), gaussian(jax.random.key(0), (64, 64, 1)))
    assert float(x.var()) == pytest.approx(n + 1, rel=0.1)


def test_the_denoiser_receives_the_time_of_each_step():
    steps = ddpm(linear_schedule(100), respaced(100, 4), "beta")
    seen = []

    def denoise(x_t, t):
        jax.debug.callback(lambda t: seen.append(int(t)), t, ordered=True)
        return Estimate(x_t, x_t)

    jax.block_until_ready(
        reverse(steps, denoise, jnp.zeros((2, 2, 1)), lambda i: jnp.zeros((2, 2, 1)))
    )
    jax.effects_barrier()
    assert seen == [100, 75, 50, 25]


@pytest.mark.parametrize("corner", [(0, 0), (5, 3), (16, 40), (1000, 31)])
def test_windows_of_a_field_hold_the_same_noise_where_they_overlap(corner):
    window = jax.jit(field(jax.random.key(1), jnp.array(corner), (40, 24)))
    moved = jax.jit(field(jax.random.key(1), jnp.array(corner) + jnp.array([11, 7]), (40, 24)))
    for i in (0, 3):
        np.testing.assert_array_equal(window(i)[11:, 7:], moved(i)[:-11, :-7])


def test_a_field_is_white_and_normal_and_another_for_every_key_and_step():
    fields = [
        np.asarray(field(jax.random.key(k), jnp.array([3, 9]), (200, 200))(i)).ravel()
        for k in (0, 1)
        for i in (0, 1)
    ]
    for one in fields:
        assert abs(one.mean()) < 0.02 and abs(one.std() - 1) < 0.02
        assert abs((one**4).mean() - 3) < 0.2  # of a normal distribution
    correlations = np.corrcoef(fields) - np.eye(4)
    assert np.abs(correlations).max() < 0.03
    image = fields[0].reshape(200, 200)
    spectrum = np.abs(np.fft.fft2(image)) ** 2 / image.size
    assert spectrum.max() < 25  # exponential, mean 1: no frequency of the blocks stands out


def test_every_step_adds_noise_of_its_own_and_none_of_it_is_the_start():
    """A chain that only adds: the sum of x_T, of number 0, and of the noise of each step."""
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    steps = Steps(np.array([3, 2, 1], np.int32), zeros, zeros, ones, ones)

    def noise(number):
        return 10.0 ** jnp.asarray(number, jnp.float32) * jnp.ones((2, 2, 1))

    def denoise(x_t, t):
        return Estimate(0 * x_t, 0 * x_t)

    assert float(sample(steps, denoise, noise)[0, 0, 0]) == 1111.0


@pytest.mark.parametrize("T, steps", [(100, 7), (1000, 30), (10, 4), (21, 20)])
def test_respaced_times_are_the_nearest_to_even_ones(T, steps):
    found = respaced(T, steps)
    assert np.abs(found - T * (1 - np.arange(steps + 1) / steps)).max() <= 0.5
