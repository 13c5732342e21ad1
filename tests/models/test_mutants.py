"""Common mistakes of a port, each applied to a copy of the networks: the golden eps must notice."""

import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from authors_network import GOLDEN, Network, model_of

import segdiff_jax.models
from segdiff_jax.models.time_embedding import sinusoid

EPS_TOLERANCE = 5e-5
MODELS = Path(segdiff_jax.models.__file__).parent

# mistake -> (file, what stands there, what a mistaken port has)
MISTAKES = {
    "qkv_layout_3_heads": [
        ("attention", "self.heads, 3, depth), 3, 0)", "3, self.heads, depth), 2, 0)"),
    ],
    "sin_before_cos": [
        (
            "time_embedding",
            "[jnp.cos(angles), jnp.sin(angles)]",
            "[jnp.sin(angles), jnp.cos(angles)]",
        )
    ],
    "groupnorm_eps_1e6": [("ops/group_norm", "EPSILON = 1e-5", "EPSILON = 1e-6")],
    "lrelu_slope_001": [("ops/dense_block_reference", "SLOPE = 0.2  # of", "SLOPE = 0.01  # of")],
    "sum_after_skip_push": [
        (
            "conditioning",
            "return self.convolve(self.at_scales(x_t)) + features",
            "Sum.alone = self.convolve(x_t)\n        return Sum.alone + features",
        ),
        (
            "unet",
            "        h = self.middle",
            "        skips[0] = importlib.import_module('PACKAGE.conditioning').Sum.alone\n"
            "        h = self.middle",
        ),
        ("unet", "import jax\n", "import importlib\nimport jax\n"),
    ],
    "skip_concat_order": [("unet", "[h, skip]", "[skip, h]")],
    "attn_scale": [("attention", "depth**-0.5", "depth**-1.0")],
    "down_same_padding": [
        (
            "layers",
            "((half, half), (half, half))",
            '"SAME" if self.stride == 2 else ((half, half), (half, half))',
        )
    ],
    "timestep_off_by_one": [("time_embedding", "t = t - 1", "t = t")],
}


def copy_of_models(folder, name, changes):
    package = folder / name
    shutil.copytree(MODELS, package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in package.rglob("*.py"):
        file.write_text(file.read_text().replace("segdiff_jax.models", name))
    for module, old, new in changes:
        path = package / f"{module}.py"
        text = path.read_text()
        count = text.count(old)
        assert count == 1, f"{old!r} stands {count} times in {module}.py"
        path.write_text(text.replace(old, new.replace("PACKAGE", name)))
    return name


def eps_of(package, network):
    model = model_of(network.config, package)
    return jax.jit(model.apply)({"params": network.params}, network.image, network.x, network.t)


@pytest.fixture(scope="module")
def network():
    return Network("unet_a")


def test_every_recorded_mistake_is_tried():
    recorded = json.loads((GOLDEN / "mutants.json").read_text())
    assert set(MISTAKES) == set(recorded) - {"none"}


@pytest.mark.parametrize("mistake", ["none", *MISTAKES])
def test_a_mistaken_network_fails_the_golden_eps(mistake, network, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = copy_of_models(tmp_path, f"mutant_{mistake}", MISTAKES.get(mistake, []))
    eps = eps_of(name, network)
    for module in [m for m in sys.modules if m.startswith(name)]:
        del sys.modules[module]
    recorded = json.loads((GOLDEN / "mutants.json").read_text())[mistake]["unet_a"]
    if mistake == "none":
        np.testing.assert_allclose(eps, network.eps, rtol=0, atol=EPS_TOLERANCE)
    else:
        error = np.abs(eps - network.eps).max()
        assert error > EPS_TOLERANCE
        assert error == pytest.approx(recorded, rel=0.6)  # the very mistake that was recorded


def test_the_waves_of_one_time_differ_from_those_of_the_next():
    assert (
        np.abs(sinusoid(jax.numpy.arange(3), 32)[1:] - sinusoid(jax.numpy.arange(2), 32)).max()
        > 0.1
    )
