"""Layers are the picture, its maps and its outlines, cut to a window and not larger than needed."""

import io

import numpy as np
import pytest
import tifffile
from page_pictures import page, picture, png, send, take
from PIL import Image
from stand_in import StandIn

from segdiff_jax.app import layers
from segdiff_jax.app.layers import Window, around, whole
from segdiff_jax.data.composite import composite
from segdiff_jax.prediction.object_table import OBJECT, Row
from segdiff_jax.prediction.overlay import INSIDE, OUTSIDE, TINT


def read(content):
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.fixture
def shown(tmp_path):
    """Returns the prediction of the picture and its answer, and those with samples."""
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()))
    take(handlers)
    list(handlers.alternatives("one", "balanced"))
    return session.predicted(1), session.answered(1)


def test_each_layer_has_the_pixels_of_its_window(shown):
    found, answered = shown
    window = Window(2, 3, 20, 30)
    drawn = {name: layers.layer(name, found, answered, window) for name in layers.NAMES}
    assert {name: read(content).shape for name, (content, _) in drawn.items()} == {
        "picture": (20, 30, 3),
        "probability": (20, 30, 3),
        "uncertainty": (20, 30, 3),
        "outlines": (20, 30, 4),
    }
    of_picture = read(drawn["picture"][0]).astype(int)
    assert np.abs(of_picture - picture()[2:22, 3:33]).max() < 40  # JPEG
    probability = read(drawn["probability"][0])
    levels = (found.probability[2:22, 3:33] >> 8).astype(np.uint8)
    np.testing.assert_array_equal(probability, layers.palette("viridis")[levels])


def test_a_picture_of_named_channels_is_predicted_and_shown_as_a_composite(tmp_path):
    def load(budget, samples):
        model = StandIn(samples=samples, whole=True)
        model.channel_names = ("DAPI", "FITC", "TRITC", "Cy5")
        return model

    image = np.concatenate([picture(), np.full((40, 50, 1), 90, np.uint8)], axis=-1)
    stream = io.BytesIO()
    stored = {"photometric": "minisblack", "planarconfig": "separate"}
    tifffile.imwrite(stream, np.moveaxis(image, -1, 0), **stored)
    handlers, session = page(tmp_path, load=load)
    send(handlers, session, a=stream.getvalue(), b_png=png(picture()))
    take(handlers)
    assert len(session.entries) == 1
    assert session.problems == [
        "b.png: has 3 channels; allowed are the 4 of config.data.channels: DAPI, FITC, TRITC, Cy5"
    ]
    content, _ = layers.layer(
        "picture", session.predicted(1), session.answered(1), whole(image.shape)
    )
    assert np.abs(read(content).astype(int) - composite(image)).max() < 60  # JPEG
    list(handlers.alternatives("one", "balanced"))
    drawn = session.samples(1)
    assert read(layers.thumbnail(image, drawn.samples[0], whole(image.shape))).shape == (40, 50, 3)


def test_outlines_are_within_the_objects_with_a_dark_line_around():
    labels = np.zeros((12, 14), np.int64)
    labels[3:9, 4:10] = 1
    drawn = layers.outlines(labels, np.array([INSIDE, TINT]))
    ring = np.zeros((12, 14), bool)
    ring[3:9, 4:10] = True
    ring[4:8, 5:9] = False
    np.testing.assert_array_equal((drawn == (*TINT, 255)).all(axis=-1), ring)
    dark = (drawn == (*OUTSIDE, 255)).all(axis=-1)
    assert dark.sum() == 4 * 6 and not dark[labels > 0].any()
    assert (drawn[..., 3] > 0).sum() == ring.sum() + dark.sum()


def test_objects_that_touch_have_a_line_each_and_the_border_of_a_picture_none():
    labels = np.zeros((6, 10), np.int64)
    labels[:, :5], labels[:, 5:] = 1, 2
    drawn = layers.outlines(labels, np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2]]))
    lines = np.zeros((6, 10), np.uint8)
    lines[:, 4], lines[:, 5] = 1, 2
    np.testing.assert_array_equal(drawn[..., 0], lines)
    np.testing.assert_array_equal(drawn[..., 3] > 0, lines > 0)


def test_large_windows_are_reduced_and_keep_their_objects(monkeypatch):
    monkeypatch.setattr(layers, "LONGEST", 204)
    labels = np.zeros((500, 410), np.int64)
    labels[100:300, 60:200] = 7
    window = whole(labels.shape)
    assert window.factor == 3  # 500 / 204
    drawn = layers.outlines(labels, np.array([INSIDE]), window.factor)
    assert drawn.shape == (167, 137, 4)
    assert (drawn[33, 20:66] == (*INSIDE, 255)).all()


def box(top, left, height, width):
    return Row("a", 1, OBJECT, "", 9, 0.0, 0.0, left, top, width, height, 4.0, 0.9)


@pytest.mark.parametrize(
    ("of", "shape", "window"),
    [
        (box(100, 200, 40, 20), (500, 500), Window(60, 150, 120, 120)),
        (box(0, 0, 5, 5), (500, 500), Window(0, 0, 96, 96)),
        (box(490, 495, 5, 5), (500, 500), Window(404, 404, 96, 96)),
        (box(10, 10, 5, 5), (50, 500), Window(0, 0, 50, 96)),
        (box(0, 0, 400, 5), (500, 60), Window(0, 0, 500, 60)),
    ],
)
def test_a_window_around_an_object_stays_in_the_picture(of, shape, window):
    found = around(of, shape)
    assert found == window
    assert found.top + found.height <= shape[0] and found.left + found.width <= shape[1]


def test_the_colour_of_an_outline_is_that_of_overlay(shown):
    found, answered = shown
    drawn = read(layers.layer("outlines", found, answered, whole(answered.mask.shape))[0])
    assert set(map(tuple, drawn[drawn[..., 3] > 0])) >= {(*INSIDE, 255), (*OUTSIDE, 255)}
    inside = (drawn[..., 3] > 0) & (answered.labels > 0)
    edges = np.zeros(answered.mask.shape, bool)
    edges[4:16, 5:15] = True
    edges[5:15, 6:14] = False
    np.testing.assert_array_equal(inside[:18], edges[:18])


def test_doubtful_objects_are_drawn_where_they_lie_in_a_window(shown):
    found, answered = shown
    doubtful = answered.known.doubtful
    cut = layers.Window(22, 10, 16, 20)
    drawn = read(layers.layer("outlines", found, answered, cut)[0])
    blue = (drawn == (*TINT, 255)).all(axis=-1)
    expected = np.zeros((40, 50), bool)
    for one in doubtful:
        rows, columns = np.nonzero(one.pixels)
        expected[one.top + rows, one.left + columns] = True
    assert not blue[~expected[22:38, 10:30]].any()
    assert blue.any() == expected[22:38, 10:30].any()


def test_a_thumbnail_is_small_and_has_the_outlines():
    image, sample = np.zeros((1000, 500, 3), np.uint8), np.zeros((1000, 500), bool)
    sample[200:600, 100:400] = True
    small = read(layers.thumbnail(image, sample, whole(image.shape)))
    assert small.shape == (167, 84, 3) and small.max() > 150
