"""A run as a Python object: its predictions, and the input it refuses."""

import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image
from tiny_config import ROOT, mesh_of, tiny, write_run

import segdiff_jax
from segdiff_jax.errors import BAD_CHECKPOINT, USAGE, UserError
from segdiff_jax.factory import networks, samplers
from segdiff_jax.models.segdiff import call
from segdiff_jax.runtime import distributed

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 27, 3), np.uint8)


@pytest.fixture(scope="module")
def model(run_of_chance):
    return segdiff_jax.load(run_of_chance, generations=3)


@pytest.fixture(scope="module")
def prediction(model):
    return model.predict(IMAGE)


def with_segmenter(model, **changes):
    (run,) = model.predictor.runs
    run = run._replace(segmenter=replace(run.segmenter, **changes))
    return replace(model, predictor=replace(model.predictor, runs=(run,)))


def test_a_prediction_has_the_size_of_the_image_and_documented_ranges(prediction):
    assert (
        prediction.probability.shape
        == prediction.mask.shape
        == prediction.uncertainty.shape
        == (40, 27)
    )
    assert prediction.generations.shape == (3, 40, 27)
    for values, high in (
        (prediction.probability, 1.0),
        (prediction.uncertainty, 0.5),
        (prediction.generations, 1.0),
    ):
        assert values.dtype == np.float32 and values.min() >= 0 and values.max() <= high
    assert prediction.mask.dtype == np.uint8 and set(np.unique(prediction.mask)) <= {0, 1}


def test_probability_mask_and_uncertainty_follow_from_the_generations(prediction):
    generations = prediction.generations.astype(np.float64)
    np.testing.assert_allclose(prediction.probability, generations.mean(0), atol=1e-6)
    np.testing.assert_allclose(prediction.uncertainty, generations.std(0), atol=1e-6)
    clear = abs(generations.mean(0) - 0.5) > 1e-6
    np.testing.assert_array_equal(prediction.mask[clear], (generations.mean(0) > 0.5)[clear])


def test_bands_of_several_images_are_their_predictions_bit_for_bit(model, prediction):
    other = IMAGE[::-1, :, ::-1].copy()
    bands = list(model.bands([IMAGE, other]))
    for i, one in enumerate((prediction, model.predict(other, number=1))):
        rows = np.concatenate([b.generations for b in bands if b.image == i], axis=1)
        np.testing.assert_array_equal(np.clip(rows, 0, 1), one.generations)


def test_the_same_call_gives_the_same_prediction_and_another_number_another(model, prediction):
    np.testing.assert_array_equal(model.predict(IMAGE).generations, prediction.generations)
    assert np.abs(model.predict(IMAGE, number=1).generations - prediction.generations).max() > 1e-3


def test_grey_images_are_taken_as_three_equal_channels(model):
    grey = IMAGE[:16, :16, 0]
    colour = np.stack([grey] * 3, axis=-1)
    one, other = model.predict(grey), model.predict(colour)
    np.testing.assert_array_equal(one.probability, other.probability)


def test_programs_are_compiled_once_for_a_size_of_tile_on_one_device(run_of_chance, caplog):
    model, mesh = segdiff_jax.load(run_of_chance), mesh_of(1)
    params = distributed.replicate(model.params, mesh)
    model = with_segmenter(model, mesh=mesh, params=params)
    with jax.log_compiles():
        for height, width in [(16, 16), (40, 27), (100, 16), (64, 64)]:
            model.predict(np.zeros((height, width, 3), np.uint8))
    messages = [record.getMessage() for record in caplog.records]
    assert sum("Compiling jit(sample_rows)" in message for message in messages) == 1


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_eps_is_that_of_the_network_whatever_it_was_trained_to_predict(run_of_chance, kind):
    model = segdiff_jax.load(run_of_chance)
    parameterization = replace(model.segmenter.sampler.prediction, kind=kind)
    sampler = replace(model.segmenter.sampler, prediction=parameterization)
    model = with_segmenter(model, sampler=sampler)
    rng = np.random.default_rng(1)
    x_t = rng.normal(size=(2, 16, 16, 1)).astype(np.float32)
    image, t = rng.integers(0, 256, (2, 16, 16, 3), np.uint8), np.array([3, 70])
    found = model.eps(x_t, t, image)

    mean, std = (np.array(x, np.float32) for x in (tiny().data.mean, tiny().data.std))
    network = jax.jit(lambda *a: call(networks.model(tiny()), "__call__", model.params, *a))
    output = np.asarray(network((image - mean) / std, x_t, t))
    alpha_bar = samplers.schedule(tiny()).alpha_bar[t][:, None, None, None]
    signal, noise = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    truth = {
        "eps": output,
        "x0": (x_t - signal * output) / noise,
        "v": noise * x_t + signal * output,
    }[kind]
    assert found.shape == (2, 16, 16, 1)
    np.testing.assert_allclose(found, truth, rtol=1e-4, atol=2e-5)


def test_the_weights_and_their_age_are_there(model):
    assert model.step == 7 and model.steps == (7,)
    assert model.params["unet"]["out"]["conv"]["kernel"].shape[-1] == 1


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"generations": 0}, "config.sampling.generations=0: must be"),
        ({"steps": 101}, "config.sampling.steps=101: must be at most diffusion.T=100"),
        ({"overlap": 16}, "overlap=16: must be at least 0 and less than a tile, 16"),
        ({"threshold": 1.0}, "threshold=1.0: must be at least 0 and below 1"),
        ({"budget": "quick"}, "config.sampling.budget='quick': must be one of fast, balanced, pap"),
        ({"separate": "size"}, "config.sampling.separate='size': must be one of auto, distance"),
        ({"samples": -1}, "config.sampling.samples=-1: must be an integer, at least 0"),
        ({"tolerance": 0.1}, "config.sampling.tolerance=0.1: must be 0 unless sampling.samples"),
        (
            {"budget": "fast", "fusion": "staple"},
            "config.sampling.fusion='staple': must be mean un",
        ),
    ],
)
def test_settings_out_of_range_are_refused(run_of_chance, settings, part):
    with pytest.raises(UserError) as caught:
        segdiff_jax.load(run_of_chance, **settings)
    assert part in str(caught.value) and caught.value.code == USAGE


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """A run of one pass, whose tiles are larger."""
    config, workdir = tiny(), tmp_path_factory.mktemp("twin")
    config.model.kind, config.sampling.generations = "twin", 1
    config.sampling.tile = config.sampling.stride = 32
    write_run(config, workdir, step=9)
    return workdir


def test_samples_are_whole_masks_beside_the_map_and_the_budget_decides_the_map(run_of_chance):
    paper = segdiff_jax.load(run_of_chance, samples=3).predict(IMAGE)
    assert paper.samples.shape == (3, 40, 27) and paper.samples.dtype == np.uint8
    assert set(np.unique(paper.samples)) <= {0, 1}
    assert paper.generations.shape == (2, 40, 27)
    fast = segdiff_jax.load(run_of_chance, budget="fast", samples=3, separate="distance")
    found = fast.predict(IMAGE)
    assert found.generations.shape == (1, 40, 27) and not fast.random
    assert found.evidence.by_distance and not paper.evidence.by_distance
    assert fast.settings()["runs"][0]["separate"] == "distance"
    p = found.probability
    np.testing.assert_allclose(found.uncertainty, np.sqrt(p * (1 - p)), atol=1e-6)
    # the mean of 3 x 40 x 27 draws, at worst one for each sample
    assert abs(found.samples.mean() - p.mean()) < 0.5
    rows = [*fast.bands([IMAGE])]
    np.testing.assert_array_equal(np.concatenate([r.samples for r in rows], 1), found.samples)


def test_runs_together_are_their_mean_in_the_tiles_of_the_first(run_of_chance, twin, caplog):
    both = segdiff_jax.load([run_of_chance, twin], budget="fast", samples=2, overlap=4, steps=2)
    assert both.steps == (7, 9) and [c.sampling.samples for c in both.configs] == [2, 0]
    assert f"{twin}: made for tiles of 32 pixels, it gets the first run's, of 16" in caplog.text
    found = both.predict(IMAGE)
    for place, generation in zip((run_of_chance, twin), found.generations, strict=True):
        alone = with_segmenter(segdiff_jax.load(place, budget="fast"), tile=16, stride=12)
        np.testing.assert_array_equal(alone.predict(IMAGE).probability, generation)
    np.testing.assert_allclose(found.probability, found.generations.mean(0), atol=1e-6)
    assert found.samples.shape == (2, 40, 27)


@pytest.mark.parametrize(
    ("places", "settings", "part"),
    [
        ([], {}, "workdir=[]: must name one run, or several once each"),
        (["run", "run"], {}, "must name one run, or several once each"),
        (["twin"], {"samples": 2}, "config.sampling.samples=2: must be 0 with model.kind='twin'"),
        (["twin"], {"steps": 2}, "holds a network that predicts in one pass"),
        (["run", "twin"], {"steps": 101}, "run_of_chance0: config.sampling.steps=101: must be at"),
    ],
)
def test_runs_that_do_not_go_together_are_refused(places, settings, part, run_of_chance, twin):
    known = {"run": run_of_chance, "twin": twin}
    with pytest.raises(UserError) as caught:
        segdiff_jax.load([known[name] for name in places], **settings)
    assert part in str(caught.value)


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no run") as caught:
        segdiff_jax.load(tmp_path)
    assert str(tmp_path) in str(caught.value) and caught.value.code == BAD_CHECKPOINT


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8, 3), np.int64), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8, 3), np.uint8)],
)
def test_what_is_no_image_is_refused(model, image):
    with pytest.raises(ValueError, match="the image "):
        model.predict(image)


def test_importing_the_package_does_not_import_jax():
    code = "import sys, segdiff_jax; assert 'jax' not in sys.modules; segdiff_jax.load"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_form_of_an_image_has_the_same_prediction(model):
    wanted = model.predict(IMAGE).probability
    locked = IMAGE.copy()
    locked.flags.writeable = False
    alike = (
        Image.fromarray(IMAGE),
        locked,
        IMAGE[::-1].copy()[::-1],
        IMAGE.astype(np.uint16) * 257,
    )
    for image in (*alike, IMAGE / 255):
        np.testing.assert_array_equal(model.predict(image).probability, wanted)
    rows = [*model.bands([Image.fromarray(IMAGE)])]
    assert np.concatenate([row.probability for row in rows]).shape == wanted.shape
