"""A run of images of five channels: statistics, batches, network, augmentation, prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny_config import tiny, write_run

import segdiff_jax
from segdiff_jax.config import validate
from segdiff_jax.data import augment
from segdiff_jax.errors import UserError
from segdiff_jax.factory import datasets, networks, training

NAMES = ("DAPI", "FITC", "TRITC", "Cy5", "phase")
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 5), np.uint8) // np.array(
    [1, 2, 3, 4, 5], np.uint8
)


@pytest.fixture
def config(tmp_path):
    for place in ("images", "masks"):
        (tmp_path / "own" / place).mkdir(parents=True)
    mask = np.zeros((24, 32), np.uint8)
    mask[4:20, 3:16] = 255
    for name, image in zip("abcd", IMAGES, strict=True):
        path = tmp_path / "own" / "images" / f"{name}.tif"
        tifffile.imwrite(
            path, np.moveaxis(image, -1, 0), photometric="minisblack", planarconfig="separate"
        )
        Image.fromarray(mask).save(tmp_path / "own" / "masks" / f"{name}.png")
    c = tiny()
    c.data.name, c.data.dir = "folder", str(tmp_path / "own")
    c.data.prepared_dir, c.data.channels = str(tmp_path / "prepared"), ",".join(NAMES)
    c.folder.test_share = c.folder.validation_share = 0.0
    c.data.mean = c.data.std = ()
    c.augment.jitter = (0.4, 0.4, 0.4, 0.1)
    c.diffusion.prediction = "logit"
    return c


def test_images_keep_their_channels_and_statistics_are_of_each(config):
    validate.check(config)
    examples = datasets.training_examples(config)
    np.testing.assert_array_equal(np.stack([one.image for one in examples]), IMAGES)
    mean, std = (datasets.with_statistics(config, examples).data[name] for name in ("mean", "std"))
    np.testing.assert_allclose(mean, IMAGES.mean(axis=(0, 1, 2)), atol=0.005 + 1e-9)  # 2 digits
    np.testing.assert_allclose(std, IMAGES.std(axis=(0, 1, 2)), atol=0.005 + 1e-9)
    batch = next(training.batches(examples, 4, 0, bands=5))
    assert batch.image.shape == (4, 24, 32, 5)


def test_the_network_reads_as_many_channels(config):
    assert networks.bands(config) == 5 and networks.bands(tiny()) == 3
    of_five, of_three = (networks.parameter_shapes(c) for c in (config, tiny()))
    differ = [
        (a.shape, b.shape)
        for a, b in zip(jax.tree.leaves(of_five), jax.tree.leaves(of_three), strict=True)
        if a.shape != b.shape
    ]
    assert [(a[-2], b[-2]) for a, b in differ] == [(5, 3)]  # the first kernel of G alone


def test_statistics_of_another_number_of_channels_are_refused(config):
    config.data.mean = config.data.std = (100.0, 100.0, 100.0)
    with pytest.raises(UserError, match=r"data\.mean=.*: must have a value of each of the 5"):
        validate.check(config)


def test_intensities_change_by_channel_around_their_own_means():
    jitter = augment.intensity_jitter(0.4, 0.3)
    image = jnp.asarray(40 + IMAGES[0] / 4, jnp.float32)
    found, _ = jitter(jax.random.key(3), image, image[..., 0])
    factors = []
    for k in range(5):
        a, b = np.polyfit(np.asarray(image[..., k]).ravel(), np.asarray(found[..., k]).ravel(), 1)
        factors.append(a)
        brighter = float(found[..., k].mean() / image[..., k].mean())
        assert 0.6 <= brighter <= 1.4 and 0.7 <= a / brighter <= 1.3
        line = a * np.asarray(image[..., k]) + b
        np.testing.assert_allclose(found[..., k], line, atol=0.01)  # of 255, in float32
    assert len(set(np.round(factors, 3))) == 5
    same, _ = augment.intensity_jitter(0, 0)(jax.random.key(3), image, image[..., 0])
    assert same is image


@pytest.mark.slow
def test_a_run_of_five_channels_takes_steps_and_predicts(config, tmp_path):
    from segdiff_jax import train

    config.data.test_split, config.train.steps = "train", 2
    train.train(config, tmp_path / "run")
    model = segdiff_jax.load(tmp_path / "run")
    found = model.predict(IMAGES[0])
    assert found.mask.shape == (24, 32)
    other = IMAGES[0].copy()
    other[..., 4] = 255 - other[..., 4]
    assert not np.array_equal(model.predict(other).probability, found.probability)
    with pytest.raises(ValueError, match=r"\(24, 32, 3\); allowed are arrays \[H, W, 5\]"):
        model.predict(IMAGES[0][..., :3])
    write_run(tiny(), tmp_path / "rgb", 6)
    with pytest.raises(UserError, match="images of the channels RGB and DAPI"):
        segdiff_jax.load([tmp_path / "run", tmp_path / "rgb"])
