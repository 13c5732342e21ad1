"""The made-up set of ambiguous discs: its masks follow the law, the same on every machine."""

import hashlib

import numpy as np
import pytest
import tfds_calls
from tiny_config import config_of

from segdiff_jax.config import validate
from segdiff_jax.data.datasets import ambiguous, registry

PICTURES = [("test", index) for index in range(12)]


@pytest.fixture(scope="module")
def drawn():
    """Scene and 40 masks of each picture."""
    return [(ambiguous.scene(*p), ambiguous.annotations(*p, 40) > 0) for p in PICTURES]


def test_a_prepared_example_is_its_scene_and_its_annotators(tmp_path, monkeypatch):
    monkeypatch.setattr(ambiguous, "COUNTS", {"train": 3, "validation": 1, "test": 2})
    source = registry.Source("ambiguous", "", str(tmp_path))
    assert source.prepare() == {"train": 3, "validation": 1, "test": 2}
    for example in source.load("train+test"):
        place = ambiguous.place_of(example.name)
        np.testing.assert_array_equal(example.image, ambiguous.scene(*place).image)
        np.testing.assert_array_equal(example.annotations, ambiguous.annotations(*place, 8))
    assert [example.name for example in source.load("test")] == ["test-0000", "test-0001"]


def test_every_mask_holds_the_bright_discs_and_faint_ones_whole_or_not(drawn):
    for (scene, masks), place in zip(drawn, PICTURES, strict=True):
        cores = scene.depth >= ambiguous.CORE
        assert masks[:, cores[~scene.faint].any(0)].all()
        np.testing.assert_array_equal(ambiguous.faint_cores(*place), cores[scene.faint])
        for core in cores[scene.faint]:
            assert core.sum() > 15
            shares = masks[:, core].mean(1)
            assert set(shares) == {0.0, 1.0}
        assert not masks[:, (scene.depth < -ambiguous.MARGINS[1]).all(0)].any()


def test_faint_discs_are_taken_by_half_and_independently(drawn):
    taken = np.stack(
        [
            [masks[:, core].all(1) for core in scene.depth[scene.faint] >= 2]
            for scene, masks in drawn
        ]
    )  # [pictures, discs, annotators]
    flips = 2.0 * taken - 1
    assert abs(flips.mean()) < 5 / flips.size**0.5
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = flips[:, i] * flips[:, j]
        assert abs(both.mean()) < 5 / both.size**0.5


def test_an_annotator_draws_all_outlines_with_one_margin(drawn):
    for scene, masks in drawn:
        for mask in masks:
            low, high = [], []  # of the margin, from each bright disc
            for depth in scene.depth[~scene.faint]:
                near = depth > -2.5
                low.append(-depth[near & mask].min())
                high.append(-depth[near & ~mask].max())
            assert max(low) < min(high)  # one margin explains all


def test_the_bright_discs_show_and_the_faint_ones_less(drawn):
    for scene, _ in drawn:
        grey = scene.image.mean(-1)
        bright, faint, ground = (
            grey[where].mean()
            for where in (
                (scene.depth[:3] > 1).any(0),
                (scene.depth[3:] > 1).any(0),
                (scene.depth < -1).all(0),
            )
        )
        assert bright > 160 and 85 < faint < 100 and 55 < ground < 65


def test_no_picture_or_mask_is_drawn_twice():
    places = [(split, index) for split in ambiguous.COUNTS for index in range(16)]
    pictures = {ambiguous.scene(*place).image.tobytes() for place in places}
    assert len(pictures) == len(places)
    generators = {
        ambiguous.generator(*numbers).random()
        for numbers in ((0, 0), (0, 0, 1), (0, 0, 2), (0, 1), (0, 1, 1), (1, 0))
    }
    assert len(generators) == 6


def test_the_drawings_are_the_published_ones():
    """Scores on this set are compared over years: a change of the set needs a new VERSION."""
    digest = hashlib.sha256()
    for split in ambiguous.COUNTS:
        digest.update(ambiguous.scene(split, 3).image.tobytes())
        digest.update(ambiguous.annotations(split, 3, 4).tobytes())
    assert digest.hexdigest()[:16] == "3cc0fbf711d66a39"


def test_the_config_is_accepted():
    config = config_of("ambiguous")
    validate.check(config)
    assert validate.warnings_for(config) == []


def test_tfds_own_calls_prepare_and_load_the_same(tmp_path, monkeypatch):
    """With all annotators."""
    monkeypatch.setattr(ambiguous, "COUNTS", {"train": 3, "validation": 1, "test": 2})
    tfds_calls.check("ambiguous", registry.Source("ambiguous", "", str(tmp_path)), tmp_path / "own")
