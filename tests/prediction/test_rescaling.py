"""Rows brought back from another scale: as JAX resizes whole maps, however they were cut."""

import jax
import numpy as np
import pytest
from bounds import assert_within

from segdiff_jax.inference.predictor import PredictedRows
from segdiff_jax.prediction.rescaling import picture, rescaled, scaled_size, weights

RNG = np.random.default_rng(3)


def bands_of(maps, cuts):
    """Yields the rows of maps by name, [..., h, w], cut before these rows."""
    height = maps["probability"].shape[-2]
    edges = [0, *cuts, height]
    for top, bottom in zip(edges, edges[1:], strict=False):
        part = {name: of[..., top:bottom, :] for name, of in maps.items()}
        yield PredictedRows(0, top, last=bottom == height, **part)


def drawn(shape):
    return {
        "generations": RNG.random((2, *shape), np.float32),
        "probability": RNG.random(shape, np.float32),
        "samples": RNG.integers(0, 2, (3, *shape)).astype(np.uint8),
        "soft": RNG.random((3, *shape), np.float32),
    }


@pytest.mark.parametrize("own", [(40, 30), (20, 15), (7, 60), (41, 29), (1, 1)])
@pytest.mark.parametrize("cuts", [(), (1, 2, 3), (7, 14, 21, 28), (39,)])
def test_rows_come_back_as_the_resized_map_however_they_were_cut(own, cuts):
    shape = (40, 30)
    maps, image = drawn(shape), np.zeros((*own, 3), np.uint8)

    def bands(images, first):
        assert first == 5
        for one in images:
            assert one.shape == (*shape, 3)
            yield from bands_of(maps, cuts)

    factor = (shape[0] / own[0], shape[1] / own[1])
    with pytest.MonkeyPatch.context() as patch:  # sides by factors of their own
        patch.setattr("segdiff_jax.prediction.rescaling.scaled_size", lambda *_: shape)
        found = list(rescaled(bands, factor[0])([image], 5))
    assert [one.last for one in found] == [False] * (len(found) - 1) + [True]
    assert [one.top for one in found] == list(
        np.cumsum([0, *(len(one.probability) for one in found)])[:-1]
    )
    for name, of in maps.items():
        got = np.concatenate([getattr(one, name) for one in found], axis=-2)
        wanted = jax.image.resize(of.astype(np.float32), (*of.shape[:-2], *own), "linear")
        if name == "samples":
            assert got.dtype == np.uint8
            clear = np.abs(np.asarray(wanted) - 0.5) > 1e-5
            np.testing.assert_array_equal(got[clear], np.asarray(wanted)[clear] > 0.5)
        else:
            assert_within(got, np.asarray(wanted), 1, 1e-5)


def test_the_network_sees_pictures_at_the_factor_and_each_picture_comes_back_at_its_own_size():
    images = [np.full((20, 31, 3), 200, np.uint8), np.full((9, 8, 3), 50, np.uint8)]
    seen = []

    def bands(given, first):
        del first
        for place, image in enumerate(given):
            seen.append(image.shape[:2])
            maps = drawn(image.shape[:2]) | {"samples": None, "soft": None}
            maps["probability"][:] = image[0, 0, 0] / 255
            half = len(image) // 2
            for top, rows in ((0, slice(half)), (half, slice(half, None))):
                one = PredictedRows(
                    *(place, top, maps["generations"][:, rows], maps["probability"][rows]),
                    *(None, top == half),
                )
                yield one

    found = list(rescaled(bands, 0.5)(images, 0))
    assert seen == [(10, 16), (4, 4)]
    for place, image in enumerate(images):
        rows = [one for one in found if one.image == place]
        p = np.concatenate([one.probability for one in rows])
        assert p.shape == image.shape[:2] and rows[-1].last and rows[0].samples is None
        assert_within(p, np.full(p.shape, image[0, 0, 0] / 255), 1, 1e-6)


def test_a_picture_is_resized_by_its_factor_and_a_factor_of_one_changes_nothing():
    image = RNG.integers(0, 256, (12, 20, 3)).astype(np.uint8)
    assert picture(image, 1.0) is image
    assert picture(image, 2.5).shape == (30, 50, 3)
    assert scaled_size((1, 3), 0.1) == (1, 1)
    grey = np.full((40, 40, 3), 77, np.uint8)
    assert (picture(grey, 0.37) == 77).all()


@pytest.mark.parametrize("sizes", [(5, 5), (1, 7), (7, 1), (100, 33), (33, 100)])
def test_weights_add_to_one_and_of_one_size_are_the_identity(sizes):
    found = weights(*sizes).toarray()
    assert found.shape == sizes[::-1] and (found >= 0).all()
    assert_within(found.sum(axis=1), np.ones(sizes[1]), 1, 1e-6)
    if sizes[0] == sizes[1]:
        np.testing.assert_array_equal(found, np.eye(sizes[0]))
