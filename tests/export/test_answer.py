"""An exported program gives the model's answer, in a process without the package."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from refusals import refused

import segdiff_jax
from segdiff_jax import errors
from segdiff_jax.cli import segdiff
from segdiff_jax.export import answer

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
RUN_BACK = """
import sys
import numpy as np
from jax import export

program = export.deserialize(bytearray(open("a.stablehlo", "rb").read()))
given = np.load("given.npz")
probability, uncertainty = program.call(given["image"], given["key"])
assert not [name for name in sys.modules if name.split(".")[0] in ("segdiff_jax", "flax")]
np.savez("found.npz", probability=probability, uncertainty=uncertainty)
"""


def run_back(folder, model):
    np.savez(folder / "given.npz", image=IMAGE, key=jax.random.key_data(model.key()))
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUN_BACK], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "found.npz")


def test_a_program_gives_the_prediction_without_the_package(run_of_chance, tmp_path):
    path = tmp_path / "a.stablehlo"
    assert segdiff.main(["export", f"--workdir={run_of_chance}", f"--output={path}"]) == errors.DONE
    model = segdiff_jax.load(run_of_chance)
    found, truth = run_back(tmp_path, model), model.predict(IMAGE)
    # the same sums in another order: the largest difference seen is 3e-7
    for name in ("probability", "uncertainty"):
        np.testing.assert_allclose(found[name], getattr(truth, name), atol=2e-6, rtol=0)
    assert truth.probability.std() > 0.01 and truth.uncertainty.std() > 0.001


@pytest.mark.parametrize("fusion", ["median", pytest.param("majority", marks=pytest.mark.slow)])
def test_the_balanced_budget_and_other_fusions_are_those_of_the_model(run_of_chance, fusion):
    kinds = {"budget": "balanced"} if fusion == "median" else {"generations": 3, "fusion": fusion}
    model = segdiff_jax.load(run_of_chance, **kinds)
    key = jax.random.key_data(model.key())
    probability, uncertainty = jax.jit(answer.answer(model))(IMAGE, key)
    truth = model.predict(IMAGE)
    np.testing.assert_allclose(probability, truth.probability, atol=2e-6, rtol=0)
    np.testing.assert_allclose(uncertainty, truth.uncertainty, atol=2e-6, rtol=0)


def test_what_is_no_formula_is_refused(run_of_chance):
    staple = segdiff_jax.load(run_of_chance, fusion="staple")
    assert "sampling.fusion='staple'" in str(refused(answer.answer, staple))
