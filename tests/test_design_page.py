"""The worked examples of docs/design.md run, and its map names what exists."""

import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_config import ROOT, tiny

from segdiff_jax import diffusion
from segdiff_jax.data.datasets import registry
from segdiff_jax.factory import networks

PAGE = (ROOT / "docs" / "design.md").read_text()


def example(heading):
    """Runs the code under a heading and returns it as a module."""
    section = PAGE.split(f"### {heading}\n")[1].split("\n##")[0]
    module = types.ModuleType(heading.replace(" ", "_"))
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], module.__dict__)
    return module


def test_the_data_set_is_prepared_and_loaded(tmp_path, monkeypatch):
    module = example("A data set")
    monkeypatch.setitem(sys.modules, "segdiff_jax.data.datasets.squares", module)
    monkeypatch.setattr(registry, "BUILDERS", (*registry.BUILDERS, "squares"))
    source = registry.Source("squares", prepared_dir=str(tmp_path))
    assert source.prepare() == {"train": 3, "test": 1}
    assert sorted(int(e.mask.sum()) for e in source.load("train")) == [64, 144, 256]
    assert source.problems() == []


def test_the_conditioning_makes_a_network_that_sees_the_image(monkeypatch):
    monkeypatch.setitem(networks.CONDITIONINGS, "product", example("A conditioning").Product)
    config = tiny()
    config.model.conditioning = "product"
    model, t = networks.model(config), jnp.array([1])
    x_t, image = jnp.ones((1, 16, 16, 1)), jnp.ones((1, 16, 16, 3))
    params = jax.jit(model.init)(jax.random.key(0), image, x_t, t)
    params = jax.tree.map(lambda x: x + 0.1, params)
    eps = jax.jit(model.apply)
    assert eps(params, image, x_t, t).shape == (1, 16, 16, 1)
    assert np.any(eps(params, image, x_t, t) != eps(params, 2 * image, x_t, t))


def test_the_sampler_ends_at_the_x0_that_a_perfect_network_knows():
    schedule = diffusion.linear_schedule(100)
    x0 = jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, (8, 8, 1)), 1.0, -1.0)

    def denoise(x_t, t):
        a = jnp.asarray(schedule.alpha_bar, jnp.float32)[t]
        return diffusion.Estimate(x0, (x_t - jnp.sqrt(a) * x0) / jnp.sqrt(1 - a))

    steps = example("A sampler").ddpm_mean(schedule, diffusion.respaced(100, 20))
    noise = diffusion.field(jax.random.key(1), jnp.array([0, 0]), (8, 8))
    # the last step's a is 1 and its c is 0, up to the rounding of float32
    np.testing.assert_allclose(diffusion.sample(steps, denoise, noise), x0, rtol=0, atol=1e-5)
    assert np.all(steps.sigma == 0)


def test_the_score_is_the_share_of_the_foreground_that_is_found():
    sensitivity = example("A score").sensitivity
    assert sensitivity([[1, 0, 1]], [[1, 1, 0]]) == 0.5
    assert np.isnan(sensitivity([[1]], [[0]]))


@pytest.mark.parametrize("path", re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))
def test_the_map_names_what_exists(path):
    for name in re.findall(r"`(.*?)`", path):
        assert (ROOT / "segdiff_jax" / name).exists(), name


def test_every_package_is_on_the_map():
    for package in (ROOT / "segdiff_jax").rglob("__init__.py"):
        name = package.parent.relative_to(ROOT / "segdiff_jax").as_posix()
        assert name == "." or f"`{name}/`" in PAGE, name
