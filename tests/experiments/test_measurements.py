"""Measurements against plain loops: generations, reverse steps, fewer training images."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bounds import assert_within
from tiny_config import mesh_of, tiny

from segdiff_jax import diffusion, metrics
from segdiff_jax.data import subset
from segdiff_jax.data.example import Example
from segdiff_jax.diffusion import Estimate
from segdiff_jax.errors import UserError
from segdiff_jax.experiments import measurements, samples
from segdiff_jax.factory import networks, samplers
from segdiff_jax.inference.averaging import average
from segdiff_jax.runtime import distributed

RANDOM = np.random.default_rng(0)
SOFT = RANDOM.uniform(-0.3, 1.3, (5, 12, 10)).astype(np.float32)
EXAMPLE = Example(
    RANDOM.integers(0, 256, (12, 10, 3), np.uint8), RANDOM.integers(0, 2, (17, 9), np.uint8), "a"
)


def test_the_mean_of_the_first_n_is_the_average_of_the_first_n():
    means = list(measurements.running_means(SOFT, (17, 9)))
    assert len(means) == 5
    for n, mean in enumerate(means, start=1):
        np.testing.assert_allclose(mean, average(SOFT[:n], (17, 9)), atol=1e-6)


def test_scores_along_a_trajectory_are_those_of_the_average_at_each_step():
    paths = np.stack([SOFT, SOFT[::-1], SOFT**2])  # 3 generations of 5 steps
    found = list(measurements.trajectory_scores(paths, EXAMPLE))
    for step, scores in enumerate(found):
        assert scores == metrics.scores(average(paths[:, step], (17, 9)), EXAMPLE.mask)


def test_curves_are_means_and_errors_over_images():
    table = [[dict.fromkeys(metrics.KEYS, x + image) for x in (0.1, 0.2)] for image in (0, 0.4)]
    curve = measurements.curves(table)["iou"]
    np.testing.assert_allclose(curve["mean"], [0.3, 0.4])
    np.testing.assert_allclose(curve["standard_deviation"], [0.4 / 2**0.5] * 2)
    np.testing.assert_allclose(curve["standard_error"], [0.2] * 2)


SCHEDULE = diffusion.linear_schedule(30)
KEY = jax.random.key(3)
OPTIONS = {"xla_backend_optimization_level": 3}  # without it, programs round apart


def denoise(x_t, t):
    """Any function of both."""
    x0 = jnp.tanh(x_t + 0.1 * t)
    signal, noise = SCHEDULE.signal(t), SCHEDULE.noise(t)
    return Estimate(x0, (x_t - signal * x0) / noise)


@pytest.mark.parametrize("variance", ["beta", "posterior"])
@pytest.mark.parametrize("steps", [7, 30])
def test_estimates_along_the_chain_are_those_of_a_plain_loop(variance, steps):
    table = diffusion.ddpm(SCHEDULE, diffusion.respaced(30, steps), variance)
    noise = diffusion.gaussian(KEY, (6, 5, 1))
    kept = jax.jit(lambda: diffusion.estimates(table, denoise, noise), compiler_options=OPTIONS)()
    x_t = noise(0)
    for i, (t, a, b, c, sigma) in enumerate(zip(*table, strict=True)):
        x0, eps = denoise(x_t, jnp.int32(t))
        np.testing.assert_allclose(kept[i], x0, atol=2e-5)
        x_t = a * x0 + b * eps + c * x_t + sigma * noise(i + 1)
    plain = jax.jit(lambda: diffusion.sample(table, denoise, noise), compiler_options=OPTIONS)()
    np.testing.assert_array_equal(kept[-1], plain)


@pytest.fixture(scope="module")
def predictions():
    """Predictions of one network with random weights: the masks, and the trajectories."""
    config, mesh = tiny(), mesh_of(1)
    model = networks.model(config)
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    image, x_t = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 16, 16, 1))
    params = init(jax.random.key(0), image, x_t, jnp.array([1]))["params"]
    keys = iter(jax.random.split(jax.random.key(1), 1000))
    params = jax.tree.map(
        lambda x: np.asarray(x + 0.1 * jax.random.normal(next(keys), x.shape)), params
    )
    params = distributed.replicate(params, mesh)
    images = RANDOM.integers(0, 256, (1, 24, 16, 3), np.uint8)  # two tiles
    of_steps = partial(
        samplers.chain_segmenter, generations=config.sampling.generations, trajectory=True
    )
    made = [
        next(iter(kind(config, params, mesh)(images, KEY)))
        for kind in (samplers.segmenter, of_steps)
    ]
    return config, made


def test_a_trajectory_ends_where_the_generation_is(predictions):
    config, (masks, paths) = predictions
    S, n = config.sampling.generations, config.sampling.steps
    assert masks.shape == (S, 24, 16) and paths.shape == (S, n, 24, 16)
    np.testing.assert_array_equal(paths[:, -1], masks)
    assert np.abs(paths[:, 0] - masks).max() > 1e-3


def test_a_network_in_one_pass_has_no_trajectory():
    config = tiny()
    config.model.kind = "twin"
    with pytest.raises(UserError, match="has no reverse steps"):
        samplers.chain_segmenter(config, None, mesh_of(1), 1)


def examples(count):
    return [EXAMPLE._replace(name=f"image{i}") for i in range(count)]


def test_a_smaller_training_set_is_part_of_every_larger_one():
    found = [
        {e.name for e in subset.nested_subset(examples(20), n, seed=5)} for n in (1, 4, 5, 13, 20)
    ]
    assert [len(names) for names in found] == [1, 4, 5, 13, 20]
    assert all(small < large for small, large in zip(found, found[1:], strict=False))


def test_the_choice_depends_on_seed_and_names_and_keeps_the_order():
    def chosen(seed, given):
        return [e.name for e in subset.nested_subset(given, 6, seed)]

    given = examples(20)
    assert chosen(1, given) != chosen(2, given)
    assert sorted(chosen(1, given)) == sorted(chosen(1, given[::-1]))
    assert chosen(1, given) == sorted(chosen(1, given), key=lambda name: int(name[5:]))
    assert subset.nested_subset(given, 0, 1) == given


def test_more_training_images_than_there_are_is_refused():
    with pytest.raises(UserError, match="data.train_images=21: must be at most 20"):
        subset.nested_subset(examples(20), 21, 0)


def test_recorded_images_are_read_back(tmp_path):
    recorder = samples.SampleRecorder()
    for _ in range(6):
        recorder.trajectory(EXAMPLE, np.stack([SOFT, SOFT]))
    recorder.save(tmp_path)
    found = samples.load(tmp_path)
    assert len(found) == samples.IMAGES
    np.testing.assert_array_equal(found[0]["image"], EXAMPLE.image)
    assert found[0]["steps"].tolist() == [1, 2, 3, 4, 5]
    wanted = average(SOFT[2:3], (17, 9))
    assert_within(found[0]["path"][2], wanted, 0.5 / 255, 1e-6)  # kept as bytes
