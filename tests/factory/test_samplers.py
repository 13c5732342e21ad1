"""Every setting of `diffusion` and `sampling` reaches the object that it is for."""

import numpy as np
import pytest
from tiny_config import mesh_of, tiny

from segdiff_jax import diffusion
from segdiff_jax.errors import UserError
from segdiff_jax.factory import samplers
from segdiff_jax.inference.sampler import DiffusionSampler, MarginalSampler, OneShotSampler


def config_with(**settings):
    """Returns the tiny config with fields of `sampling`, or with GROUP__FIELD of another group."""
    config = tiny()
    for name, value in settings.items():
        group, _, field = name.rpartition("__")
        config[group or "sampling"][field] = value
    return config


def predictor(*configs):
    return samplers.predictor([(config, {}) for config in configs], mesh_of(1))


def assert_steps(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["linear", "linear_unscaled", "cosine"])
@pytest.mark.parametrize("b", [1.0, 0.3])
def test_the_schedule_is_the_named_one_at_the_signal_scale(name, b):
    """alpha_bar_b = b^2 a / ((b^2 - 1) a + 1), of the formulas in the papers."""
    config = config_with(diffusion__schedule=name, diffusion__T=40, diffusion__signal_scale=b)
    u = (np.arange(41) / 40 + 0.008) / 1.008
    cosine = np.cos(u * np.pi / 2) ** 2
    beta = {
        "linear": 25 * np.linspace(1e-4, 0.02, 40),
        "linear_unscaled": np.linspace(1e-4, 0.02, 40),
        "cosine": np.minimum(1 - cosine[1:] / cosine[:-1], 0.999),
    }[name]
    a = np.concatenate([[1], np.cumprod(1 - beta)])
    expected = b**2 * a / ((b**2 - 1) * a + 1)
    np.testing.assert_allclose(samplers.schedule(config).alpha_bar, expected, rtol=1e-6)


@pytest.mark.parametrize("steps", [0, 7])
@pytest.mark.parametrize("spacing", ["even", "snr"])
def test_the_reverse_process_has_the_steps_spacing_and_noise_of_the_config(steps, spacing):
    forward = samplers.schedule(tiny())
    count = steps or forward.T
    even, by_snr = diffusion.respaced(forward.T, count), diffusion.respaced_by_snr(forward, count)
    assert steps == 0 or not np.array_equal(even, by_snr)
    times = {"even": even, "snr": by_snr}[spacing]
    for variance in ("beta", "posterior"):
        config = config_with(steps=steps, spacing=spacing, sampler="ddpm", variance=variance)
        expected = diffusion.ddpm(forward, times, variance)
        assert_steps(samplers.reverse_steps(config, forward), expected)
    for eta in (0.0, 1.0):
        config = config_with(steps=steps, spacing=spacing, sampler="ddim", eta=eta)
        expected = diffusion.ddim(forward, times, eta)
        assert_steps(samplers.reverse_steps(config, forward), expected)


@pytest.mark.parametrize(
    ("budget", "orientations", "generations", "seen", "kind"),
    [
        ("fast", 4, 5, (1, 1), MarginalSampler),
        ("balanced", 4, 5, (4, 4), MarginalSampler),
        ("balanced", 8, 5, (8, 8), MarginalSampler),
        ("paper", 4, 5, (5, 1), DiffusionSampler),
    ],
)
def test_a_budget_is_its_passes(budget, orientations, generations, seen, kind):
    config = config_with(
        budget=budget, orientations=orientations, generations=generations,
        diffusion__prediction="logit",
    )  # fmt: skip
    segmenter = predictor(config).runs[0].segmenter
    assert (segmenter.generations, segmenter.orientations) == seen
    assert type(segmenter.sampler) is kind


def test_a_network_of_one_pass_has_one_shot_in_each_orientation_and_no_samples():
    config = config_with(model__kind="twin", budget="balanced", orientations=8, samples=4)
    with pytest.raises(UserError, match="has no reverse steps"):
        samplers.chain_segmenter(config, {}, mesh_of(1), 4)
    config.sampling.samples = 0
    (run,) = predictor(config).runs
    assert type(run.segmenter.sampler) is OneShotSampler and run.chain is None
    assert (run.segmenter.generations, run.segmenter.orientations) == (8, 8)


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "logit"])
@pytest.mark.parametrize("field", ["clip_x0", "bayes_skip", "zero_x_T"])
def test_the_parameterization_is_the_one_of_the_config(kind, field):
    on = field != "bayes_skip" or kind == "logit"
    config = config_with(**{"diffusion__prediction": kind, f"diffusion__{field}": on})
    settings = {"clip_x0": False, "bayes_skip": False, "zero_x_T": False} | {field: on}
    found = samplers.prediction(config)
    assert (found.kind, found.clip) == (kind, settings["clip_x0"])
    assert (found.bayes_skip, found.zero_noise) == (settings["bayes_skip"], settings["zero_x_T"])


def test_both_samplers_have_the_parameterization_the_schedule_and_the_statistics():
    config = config_with(diffusion__prediction="logit", budget="fast", samples=2)
    config.data.mean, config.data.std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    (run,) = predictor(config).runs
    for sampler in (run.segmenter.sampler, run.chain.sampler):
        assert sampler.prediction == samplers.prediction(config)
        assert (sampler.mean, sampler.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
        np.testing.assert_array_equal(
            sampler.schedule.alpha_bar, samplers.schedule(config).alpha_bar
        )


@pytest.mark.parametrize("x0", ["soft", "drawn"])
@pytest.mark.parametrize("masks", ["coupled", "soft"])
def test_samples_are_drawn_shared_out_and_coupled_as_the_first_config_with_most_says(x0, masks):
    few = config_with(samples=2, masks="coupled", tolerance=0.5, x0=x0)
    many = config_with(samples=5, masks=masks, tolerance=0.25, x0=x0)
    twin = config_with(model__kind="twin")
    found = predictor(few, twin, many)
    assert (found.samples, found.tolerance, found.coupled) == (5, 0.25, masks == "coupled")
    chains = [run.chain for run in found.runs]
    assert chains[1] is None
    for chain in (chains[0], chains[2]):  # five of two networks: three at most of each
        assert chain.generations == 3 and chain.sampler.drawn == (x0 == "drawn")
        assert chain.orientations == 1 and not chain.sampler.trajectory
    assert predictor(tiny()).runs[0].chain is None


@pytest.mark.parametrize("separate", ["auto", "distance"])
def test_objects_are_separated_and_generations_fused_as_the_config_says(separate):
    config = config_with(separate=separate, fusion="median")
    found = predictor(config)
    assert found.by_distance == (separate == "distance") and found.runs[0].fusion == "median"


@pytest.mark.parametrize(("rows", "expected"), [(0, 1), (3, 3)])
def test_tiles_and_rows_of_a_call_are_those_of_the_config(rows, expected):
    config = config_with(tile=32, stride=24, rows_at_once=rows, generations=2, budget="paper")
    segmenter = predictor(config).runs[0].segmenter
    assert (segmenter.tile, segmenter.stride) == (32, 24)
    assert segmenter.rows_per_device == expected
    assert segmenter.max_tiles_per_call == 8  # 16 rows of two generations
