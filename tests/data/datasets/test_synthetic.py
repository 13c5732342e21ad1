"""The made-up data set: the same everywhere, unsolvable by a threshold, never empty."""

import hashlib

import numpy as np
import pytest
import tfds_calls
from PIL import Image

from segdiff_jax.data.datasets import registry, synthetic


@pytest.fixture(scope="module")
def drawn():
    return {
        split: [synthetic.draw(split, index) for index in range(count)]
        for split, count in synthetic.COUNTS.items()
    }


def best_threshold_dice(channels, masks):
    """The mean Dice of the best of 256 levels, either side of it being the foreground."""
    best = 0.0
    for level in range(256):
        above = channels > level
        for found in (above, ~above):
            both = (found & masks).sum((1, 2))
            dice = 2 * both / (found.sum((1, 2)) + masks.sum((1, 2)))
            best = max(best, dice.mean())
    return best


def test_no_threshold_on_a_channel_solves_it(drawn):
    images = np.stack([image for image, _ in drawn["test"]])
    masks = np.stack([mask for _, mask in drawn["test"]]).astype(bool)
    grey = np.stack([np.array(Image.fromarray(image).convert("L")) for image in images])
    dice = [best_threshold_dice(c, masks) for c in (*np.moveaxis(images, -1, 0), grey)]
    assert max(dice) < 0.75, dice
    assert min(dice) > 0.5, dice  # the stain does tell something, or it would not look like one


def test_every_image_has_a_foreground_and_a_background(drawn):
    shares = np.array([mask.mean() for split in drawn.values() for _, mask in split])
    assert 0.03 < shares.min() and shares.max() < 0.6
    assert 0.2 < shares.mean() < 0.35


def test_images_are_rgb_bytes_and_masks_are_zero_and_one(drawn):
    for image, mask in drawn["validation"]:
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert mask.shape == (64, 64) and mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}


def test_no_image_is_drawn_twice(drawn):
    digests = [image.tobytes() for split in drawn.values() for image, _ in split]
    assert len(set(digests)) == len(digests) == 320


def test_the_drawings_are_the_published_ones(drawn):
    """Scores on this set are compared over years: a change of the set needs a new VERSION."""
    digest = hashlib.sha256()
    for split in ("train", "validation", "test"):
        for image, mask in drawn[split]:
            digest.update(image.tobytes() + mask.tobytes())
    assert str(synthetic.Synthetic.VERSION) == "1.1.0"
    assert digest.hexdigest() == "8ad710715ea9bd06f5a360476452bf28b9dc7f89ca0d886adfd738c001594994"


def test_tfds_own_calls_prepare_and_load_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "COUNTS", {"train": 4, "validation": 2, "test": 2})
    tfds_calls.check("synthetic", registry.Source("synthetic", "", str(tmp_path)), tmp_path / "own")
