"""A map and samples of one network or several: rows, tiles, shares, and when enough are drawn."""

from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pixel_network import PixelByPixel, predictor_of, samplers_of, segmenters

from segdiff_jax.inference import predictor
from segdiff_jax.inference.coupling import couple
from segdiff_jax.inference.predictor import Predictor, Run, is_settled
from segdiff_jax.runtime import compilation

KEY = jax.random.key(4)
RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (40, 52, 3), np.uint8)


def predict(made, image=IMAGE, number=0):
    return made.predict(image, KEY, number)


@pytest.fixture(scope="module")
def whole():
    return predict(predictor_of())


def test_samples_are_the_soft_ones_coupled_with_the_map(whole):
    one, chain = segmenters()
    (map_,), (soft,) = ([*segmenter([IMAGE], KEY)] for segmenter in (one, chain))
    np.testing.assert_array_equal(whole.probability, map_[0])
    np.testing.assert_array_equal(whole.soft, soft)
    rng = predictor._generator(KEY, 0)
    np.testing.assert_array_equal(whole.samples, couple(soft, map_[0], rng))
    assert whole.samples.dtype == np.uint8 and 0 < whole.samples.mean() < 1
    plain = predict(predictor_of(coupled=False))
    np.testing.assert_array_equal(plain.samples, soft > 0.5)


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("stride", [16, 12])
def test_samples_of_a_tiled_image_agree_at_the_seams(coupled, stride, whole):
    """Without a neighbourhood, and with one field of noise, tiles make no difference at all."""
    untiled = predict(predictor_of(coupled=coupled))
    tiled = predict(predictor_of(coupled=coupled, tile=16, stride=stride))
    np.testing.assert_array_equal(tiled.samples, untiled.samples)
    np.testing.assert_allclose(tiled.probability, untiled.probability, atol=4 * 2**-23)


@pytest.mark.parametrize("fusion", ["mean", "median"])
def test_rows_of_several_images_are_those_of_each_image(fusion):
    images = [IMAGE, IMAGE[:23, ::-1], IMAGE[:, :16]]
    one, chain = segmenters(generations=3, tile=16, stride=12)
    made = Predictor((Run(one, chain, fusion),), 4, coupled=False)
    rows = [*made.bands(iter(images), KEY, first=5)]
    assert [r.last for r in rows].count(True) == 3 and len(rows) > 5
    for number, (image, joined) in enumerate(zip(images, made(images, KEY), strict=True)):
        alone, again = predict(made, image, 5 + number), predict(made, image, number)
        parts = [r for r in rows if r.image == number]
        assert [r.top for r in parts] == [0, *np.cumsum([len(r.probability) for r in parts])[:-1]]
        for name in ("generations", "probability", "samples", "soft"):
            stacked = np.concatenate([getattr(r, name) for r in parts], axis=-2)
            np.testing.assert_array_equal(stacked, getattr(alone, name))
            np.testing.assert_array_equal(getattr(joined, name), getattr(again, name))


def test_the_sizes_of_calls_and_the_number_of_devices_change_nothing(whole):
    for made in (predictor_of(devices=4), predictor_of().one_tile_a_call()):
        found = predict(made)
        for name in ("generations", "probability", "samples"):
            np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_over_images_a_pixel_is_foreground_as_often_as_its_probability_says():
    made, image = predictor_of(samples=3), np.full((4, 4, 3), 90, np.uint8)
    found = [predict(made, image, number) for number in range(60)]
    shares = np.array([one.samples.mean() - one.probability.mean() for one in found])
    assert abs(shares.mean()) < 0.05
    drawn = [predictor._generator(KEY, number).random() for number in range(200)]
    assert min(drawn) < 0.1 and max(drawn) > 0.9 and len(set(drawn)) == 200


def test_samples_that_would_not_fit_into_memory_are_refused_by_their_size():
    with pytest.raises(ValueError, match=r"16 masks of 9000 x 9000 pixels take 4\.8 GB"):
        predictor_of(samples=16).check_size((9000, 9000, 3))
    predictor_of(samples=16, coupled=False).check_size((9000, 9000, 3))


def test_without_samples_there_is_the_map_alone(whole):
    alone = predict(predictor_of(samples=0))
    assert alone.samples is None
    np.testing.assert_array_equal(alone.probability, whole.probability)


def test_the_map_of_several_runs_is_the_mean_of_theirs_and_samples_are_drawn_in_turn():
    (first, chain), (second, _), (third, other) = (segmenters(s) for s in (0.0, 1.5, -0.7))
    made = Predictor((Run(first, chain), Run(second), Run(third, other)), 5, coupled=False)
    found = predict(made)
    maps = [next(one([IMAGE], KEY))[0] for one in (first, second, third)]
    np.testing.assert_array_equal(found.generations, maps)
    np.testing.assert_allclose(found.probability, np.mean(maps, axis=0), rtol=1e-6)
    assert not made.random and made.generations == 3
    for number in range(5):
        source = replace((chain, other)[number % 2], generations=1, first=number)
        np.testing.assert_array_equal(found.samples[number], next(source([IMAGE], KEY))[0] > 0.5)
    rows = [*made.bands([IMAGE], KEY)]
    np.testing.assert_array_equal(rows[0].samples, found.samples)
    three = tuple(Run(*pair) for pair in ((first, chain), (second, chain), (third, other)))
    at_once, rounds = (predict(Predictor(three, 7, False, t)).samples for t in (0.0, 1e-9))
    np.testing.assert_array_equal(rounds, at_once)


def test_samples_are_drawn_until_their_mean_area_is_known_well_enough():
    everything = predict(predictor_of(samples=13, coupled=False)).samples
    drawn = {}
    for tolerance in (1e-9, 0.03, 1e9):
        samples = predict(predictor_of(13, False, tolerance)).samples
        drawn[tolerance] = len(samples)
        np.testing.assert_array_equal(samples, everything[: len(samples)])
        assert len(samples) == 13 or is_settled(samples, tolerance)
        assert all(not is_settled(everything[:n], tolerance) for n in range(4, len(samples), 4))
    assert drawn[1e-9] == 13 and drawn[1e9] == 4


def test_samples_in_rounds_are_coupled_all_together():
    rounds, at_once = predict(predictor_of(6, tolerance=1e-9)), predict(predictor_of(6))
    np.testing.assert_array_equal(rounds.samples, at_once.samples)
    made = predictor_of(6, tolerance=1e-9, tile=16, stride=12)
    (rows,) = made.bands([IMAGE], KEY)
    np.testing.assert_array_equal(rows.samples, at_once.samples)
    assert made.whole and not predictor_of(coupled=False).whole


@pytest.mark.parametrize(
    ("areas", "tolerance", "settled"),
    [
        ([4, 8], 0.33, False),  # standard error 2 of a mean of 6
        ([4, 8], 0.34, True),
        ([0, 0, 0, 0], 1e-9, True),
        ([16], 9.0, False),
        ([1, 2, 3, 4], 0.25, False),  # sqrt(5/3/4) = 0.645 of 2.5
        ([1, 2, 3, 4], 0.26, True),
    ],
)
def test_settled_by_hand(areas, tolerance, settled):
    masks = np.stack([np.arange(16).reshape(4, 4) < area for area in areas]).astype(np.uint8)
    assert is_settled(masks, tolerance) == settled


@pytest.mark.parametrize("method", ["staple", "medoid"])
def test_fusions_of_a_whole_image_get_it_whole(method):
    one, chain = segmenters(generations=3, tile=16, stride=12)
    made = Predictor((Run(one, chain, method),), 2)
    (rows,) = made.bands([IMAGE], KEY)
    assert made.whole and rows.probability.shape == IMAGE.shape[:2]
    generations = next(one([IMAGE], KEY)).clip(0, 1)
    np.testing.assert_array_equal(rows.probability, predictor.fuse(generations, method))


def test_a_sample_that_is_no_number_is_not_hidden_by_its_mask():
    one, chain = segmenters()
    bad = replace(chain.sampler, model=PixelByPixel(jnp.nan))
    found = predict(Predictor((Run(one, replace(chain, sampler=bad)),), 4))
    assert np.isnan(found.probability).all() and np.isnan(found.generations).all()


def images_of_forty_sizes():
    heights_and_widths = (
        *(((1, 3, 6, 8), (2, 5, 8)), ((4, 9, 13, 16), (10, 12, 15, 16))),
        ((5, 17, 40), (18, 25, 33, 40)),
    )
    shapes = [pair for sides in heights_and_widths for pair in product(*sides)]
    assert len(set(shapes)) == 40
    order = RANDOM.permutation([*range(40), *range(0, 40, 4)])
    return [RANDOM.integers(0, 256, (*shapes[i], 3), np.uint8) for i in order]


@pytest.mark.parametrize("coupled", [True, False])
def test_images_of_forty_sizes_share_six_programs_and_are_what_each_is_alone(coupled, caplog):
    """Without a neighbourhood, and with one field of noise, padding makes no difference at all."""
    samplers_of.cache_clear()  # so that nothing is compiled already
    made, reports = predictor_of(coupled=coupled, tile=32, stride=24), []
    images = images_of_forty_sizes()
    with jax.log_compiles(), compilation.reported_to(reports.append):
        found = [*made(images, KEY)]
    messages = [record.getMessage() for record in caplog.records]
    assert sum("Compiling jit(sample_rows)" in message for message in messages) == 6
    assert sorted(filter(None, reports)) == [
        f"tiles of {side} x {side} pixels" for side in (16, 16, 32, 32, 8, 8)
    ]
    assert reports[1::2] == [""] * 6
    untiled = predictor_of(coupled=coupled)
    for number in (0, 7):
        alone = predict(untiled, images[number], number)
        np.testing.assert_allclose(found[number].probability, alone.probability, atol=4 * 2**-23)
        np.testing.assert_array_equal(found[number].samples, alone.samples)


def test_where_rows_are_denoised_together_a_tile_that_is_alone_has_its_own_program():
    one, _ = segmenters(tile=64, stride=64)
    together = replace(one, rows_per_device=16, max_tiles_per_call=16)
    assert [together._slots_for(tiles) for tiles in (1, 2, 5, 16)] == [1, 16, 16, 16]
    assert [one._slots_for(tiles) for tiles in (1, 2)] == [2, 2]
