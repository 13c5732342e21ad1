"""The deterministic twin and the plain U-Net: their training, predictions and reports."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_config import mesh_of, tiny, write_run
from training_steps import run_steps

import segdiff_jax
from segdiff_jax import evaluate, train
from segdiff_jax.data.example import Batch
from segdiff_jax.errors import UserError
from segdiff_jax.evaluation import panels
from segdiff_jax.factory import networks, samplers, training
from segdiff_jax.inference.averaging import uncertainty
from segdiff_jax.models.segdiff import call
from segdiff_jax.runtime import distributed
from segdiff_jax.training.loss import CrossEntropyObjective
from segdiff_jax.training.step import init_state


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def config_for(kind, **settings):
    config = tiny()
    config.model.kind = kind
    config.sampling.generations, config.sampling.steps = 1, 0
    config.train.update(settings)
    return config


@pytest.mark.parametrize(("reduction", "factor"), [("sum", 16 * 16), ("mean", 1)])
def test_the_loss_is_the_cross_entropy_of_the_pixels_and_mse_that_of_the_probability(
    reduction, factor
):
    """With a stand-in network of one logit everywhere, against the formula."""
    config = config_for("unet", loss=reduction)
    config.augment.horizontal_flip = False
    objective = training.objective(config)
    assert isinstance(objective, CrossEntropyObjective)
    mask = np.zeros((16, 16), np.uint8)
    mask[:4] = 1  # a quarter
    p = 0.8
    params = {"logit": jnp.log(p / (1 - p))}

    def stand_in(model, method, params, *inputs):
        return inputs[0] if method == "encode" else jnp.full((1, 16, 16, 1), params["logit"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segdiff_jax.training.loss.call", stand_in)
        image = np.zeros((16, 16, 3), np.uint8)
        one_row = Batch(image[None], mask[None])
        loss, (_, (mse,)) = objective.loss(params, one_row, jax.random.key(0)[None])
    truth = -0.25 * np.log(p) - 0.75 * np.log(1 - p)
    assert float(loss) == pytest.approx(factor * truth, rel=1e-5)
    assert float(mse) == pytest.approx(0.25 * (1 - p) ** 2 + 0.75 * p**2, rel=1e-5)


def test_a_batch_is_learned_by_heart():
    config = config_for("unet", learning_rate=1e-2)
    config.augment.horizontal_flip = False
    state = jax.jit(
        lambda key: init_state(
            training.objective(config), training.optimizer(config), (16, 16), key
        )
    )(jax.random.key(0))
    _, seen = run_steps(jax.tree.map(np.asarray, state), 60, 1, config=config)
    assert seen[0]["mse"] == pytest.approx(0.25)  # a fresh network predicts one half everywhere
    assert seen[0]["loss"] == pytest.approx(24 * 24 * np.log(2), rel=1e-5)
    assert seen[-1]["mse"] < 0.5 * seen[0]["mse"]


@pytest.fixture(scope="module", params=["twin", pytest.param("unet", marks=pytest.mark.slow)])
def trained(request, tmp_path_factory, synthetic_set):
    """Two updates on the synthetic set, by the functions that the command line calls."""
    workdir = tmp_path_factory.mktemp(request.param)
    config = config_for(request.param, steps=2)
    config.data.prepared_dir = str(synthetic_set)
    state = train.train(config, workdir)
    return config, workdir, jax.tree.map(np.asarray, state.ema_params)


def test_a_network_in_one_pass_trains_and_its_report_claims_no_generations(trained):
    config, workdir, _ = trained
    page = evaluate.evaluate(config, workdir)
    report = json.loads((page.parent / "report.json").read_text())
    assert len(report["images"]) == 32 and len(report["training_curve"]) == 2
    names = {"twin": "Deterministic twin", "unet": "Plain U-Net"}
    assert report["title"].startswith(names[config.model.kind])
    settings = report["settings"]
    assert "no diffusion" in settings["network"]
    assert "p (1 - p)" in settings["uncertainty"]
    assert not {"generations averaged", "reverse steps", "network predicts"} & set(settings)
    assert "generation" not in page.read_text()


def test_a_loaded_network_predicts_its_probability_and_the_uncertainty_of_it(trained):
    config, workdir, params = trained
    model = segdiff_jax.load(workdir)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    answer, other = model.predict(image), model.predict(image, number=5)
    np.testing.assert_array_equal(answer.probability, other.probability)  # there is no noise
    mean, std = (np.array(x, np.float32) for x in (config.data.mean, config.data.std))
    network = networks.model(config)
    logits = jax.jit(lambda x: call(network, "__call__", params, x, None, None))(
        (image[None] - mean) / std
    )
    p = 1 / (1 + np.exp(-np.asarray(logits[0, ..., 0], np.float64)))
    np.testing.assert_allclose(answer.probability, p, atol=1e-5)
    np.testing.assert_allclose(answer.uncertainty, np.sqrt(p * (1 - p)), atol=1e-4)
    assert answer.generations.shape == (1, 16, 16)
    with pytest.raises(ValueError, match="in one pass"):
        model.eps(np.zeros((1, 16, 16, 1)), np.array([1]), image[None])
    with pytest.raises(UserError, match="steps=5: .* predicts in one pass"):
        segdiff_jax.load(workdir, steps=5)
    with pytest.raises(UserError, match=r"sampling\.generations=3: must be 1 with model\.kind"):
        segdiff_jax.load(workdir, generations=3)


def test_one_pass_has_the_uncertainty_of_a_coin_and_draws_that_of_their_spread():
    p = np.array([[[0.0, 0.1, 0.5, 1.0]]], np.float32)
    np.testing.assert_allclose(uncertainty(p, random=False), [[0, 0.3, 0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(uncertainty(p), 0)
    pair = np.concatenate([p, 1 - p])
    np.testing.assert_allclose(uncertainty(pair), np.abs(p[0] - 0.5), atol=1e-6)


def test_a_panel_without_draws_shows_no_single_generation():
    image, truth = np.zeros((16, 16, 3), np.uint8), np.eye(16, dtype=np.uint8)
    p = np.full((1, 16, 16), 0.5, np.float32)

    def texts(**options):
        figure = panels.panel(image, truth, p, p[0], "x", {}, **options)
        return [text.get_text() for text in figure.axes[0].texts]

    said = texts(random=False)
    assert "uncertainty" in said and "uncertainty (std)" in said and "probability" in said
    assert not [words for words in said if "generation" in words or "disagree" in words]
    said = texts()
    assert "generation 1" in said and "disagreement" in said


def test_predict_writes_what_stands_for_uncertainty_and_warns_of_nothing(tmp_path, monkeypatch):
    from absl import logging
    from PIL import Image

    from segdiff_jax import predict

    config = config_for("unet")
    write_run(config, tmp_path / "run", step=1)
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    warned = []
    monkeypatch.setattr(logging, "warning", lambda *words: warned.append(words))
    folders = f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"
    assert predict.main([f"--workdir={tmp_path / 'run'}", *folders]) == 0
    assert warned == []
    maps = {
        name: np.asarray(Image.open(tmp_path / "out" / name / "a.png")) / 65535
        for name in ("probability", "uncertainty")
    }
    p = maps["probability"]
    np.testing.assert_allclose(maps["uncertainty"] / 2, np.sqrt(p * (1 - p)), atol=2e-4)
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["kind"] == "unet" and "generations" not in settings


def test_the_segmenter_of_a_network_in_one_pass_needs_no_noise():
    config = config_for("twin")
    segment = samplers.segmenter(config, distributed.replicate({}, mesh_of(1)), mesh_of(1))
    assert segment.generations == 1 and not segment.sampler.random
    assert samplers.segmenter(tiny(), None, mesh_of(1)).sampler.random
