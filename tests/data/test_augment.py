"""Augmentation against PIL, colorsys and the statistics of its draws."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bounds import assert_within
from jax import Array
from PIL import Image, ImageEnhance

from segdiff_jax.data import augment
from segdiff_jax.data.augment import (
    Augment,
    affine,
    blend,
    chain,
    color_jitter,
    flip,
    invert,
    warp,
)

MONUSEG = chain(flip(True, True), affine(22, (0.75, 1.25)), color_jitter(0.4, 0.4, 0.4, 0.1))
WARP = jax.jit(warp)  # takes numpy arrays too


def noise(height: int = 48, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.float32)
    return image, rng.integers(0, 2, (height, width)).astype(np.uint8)


def many(change: Augment, image, mask, n: int, seed: int = 0) -> tuple[Array, Array]:
    """Applies an augmentation to one example under n keys."""
    keys = jax.random.split(jax.random.key(seed), n)
    image, mask = jnp.asarray(image, jnp.float32), jnp.asarray(mask)
    return jax.jit(jax.vmap(change, in_axes=(0, None, None)))(keys, image, mask)


@pytest.fixture(scope="module")
def monuseg() -> Augment:
    """A whole chain for 8 keys, compiled once."""
    return jax.jit(jax.vmap(MONUSEG, in_axes=(0, None, None)))


def assert_uniform(values, low: float, high: float) -> None:
    """Checks range, mean and deviation of 2000 draws, and that they come near both ends."""
    values, width = np.asarray(values, np.float64), high - low
    assert low - 1e-3 * width <= values.min() < low + 0.02 * width
    assert high - 0.02 * width < values.max() <= high + 1e-3 * width
    assert abs(values.mean() - (low + high) / 2) < 0.03 * width
    assert abs(values.std() - width / 12**0.5) < 0.02 * width


# Geometry ----------------------------------------------------------------------------------------


def pil_affine(channel: np.ndarray, degrees: float, scale: float, filter: int) -> np.ndarray:
    """Turns clockwise and enlarges about (w/2, h/2) by PIL, which wants the inverse map."""
    height, width = channel.shape
    turn = np.deg2rad(degrees)
    forward = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * scale
    inverse, centre = np.linalg.inv(forward), np.array([width / 2, height / 2])
    shift = centre - inverse @ centre
    data = (*inverse[0], shift[0], *inverse[1], shift[1])
    picture = Image.fromarray(channel)
    return np.asarray(picture.transform((width, height), Image.Transform.AFFINE, data, filter))


@pytest.mark.parametrize(("height", "width"), [(48, 48), (37, 52), (52, 37)])
@pytest.mark.parametrize(
    ("degrees", "scale"), [(17.3, 1.0), (-21.9, 0.76), (133.0, 1.24), (0.0, 1.47), (0.0, 0.77)]
)
def test_warp_is_the_affine_transform_of_pil(height, width, degrees, scale):
    image, mask = noise(height, width)
    out, out_mask = WARP(image, mask, np.deg2rad(degrees), scale)
    for channel in range(3):
        truth = pil_affine(image[..., channel], degrees, scale, Image.Resampling.BILINEAR)
        np.testing.assert_allclose(out[..., channel], truth, atol=0.02)
    assert out_mask.dtype == jnp.uint8
    truth = pil_affine(mask, degrees, scale, Image.Resampling.NEAREST)
    assert (out_mask != truth).sum() <= 2  # PIL rounds places to 1/65536 of a pixel a step


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_a_quarter_turn_of_a_square_is_exact_and_clockwise(turns: int):
    for size in (8, 9):
        image, mask = noise(size, size)
        out, out_mask = WARP(image, mask, jnp.float32(turns * np.pi / 2), jnp.float32(1))
        np.testing.assert_allclose(out, np.rot90(image, -turns), atol=0.01)
        np.testing.assert_array_equal(out_mask, np.rot90(mask, -turns))


def test_what_comes_from_outside_is_black_and_background():
    image, mask = np.full((20, 20, 3), 200, np.float32), np.ones((20, 20), np.uint8)
    out, out_mask = WARP(image, mask, jnp.float32(0), jnp.float32(0.5))
    inner = np.zeros((20, 20), bool)
    inner[5:15, 5:15] = True
    np.testing.assert_allclose(out, 200 * np.repeat(inner[..., None], 3, axis=-1), atol=1e-3)
    np.testing.assert_array_equal(out_mask, inner)


def test_angle_and_scale_are_uniform_and_independent():
    y, x = np.mgrid[:9, :9].astype(np.float32)
    ramps = np.stack([x, y, x], axis=-1)  # the slope of a ramp tells the inverse map
    out, _ = many(affine(22, (0.75, 1.25)), ramps, np.zeros((9, 9), np.uint8), 2000)
    cos, sin = out[:, 4, 5, 0] - out[:, 4, 4, 0], out[:, 5, 4, 0] - out[:, 4, 4, 0]
    angle, scale = np.rad2deg(np.arctan2(sin, cos)), 1 / np.hypot(cos, sin)
    assert_uniform(angle, -22, 22)
    assert_uniform(scale, 0.75, 1.25)
    assert abs(np.corrcoef(angle, scale)[0, 1]) < 0.1


def test_flips_are_exact_and_each_has_probability_one_half():
    image, mask = noise(6, 8)
    for wanted in ((True, True), (True, False), (False, True)):
        out, out_mask = many(flip(*wanted), image, mask, 1000)
        seen = np.zeros((2, 2), int)
        for sideways in (0, 1)[: 1 + wanted[0]]:
            for upside_down in (0, 1)[: 1 + wanted[1]]:
                step = np.s_[:: 1 - 2 * upside_down, :: 1 - 2 * sideways]
                equal = (out == image[step]).all((1, 2, 3)) & (out_mask == mask[step]).all((1, 2))
                seen[upside_down, sideways] = equal.sum()
        possible = 1000 / 2 ** sum(wanted)
        assert seen.sum() == 1000 and all(abs(n - possible) < 80 for n in seen.flat if n)


def test_the_mask_follows_the_image():
    y, x = np.mgrid[:48, :48]
    mask = ((np.hypot(y - 15, x - 30) < 11) | (x + 2 * y > 110)).astype(np.uint8)
    painted = np.repeat(255.0 * mask[..., None], 3, axis=-1)
    move = chain(flip(True, True), affine(180, (0.75, 1.5)))
    out, out_mask = (np.asarray(a) for a in many(move, painted, mask, 50))
    for level, value in ((0, 0), (255, 1)):  # where all neighbours agree, nearest must as well
        assert (out_mask[abs(out[..., 0] - level) < 0.1] == value).all()
    assert (abs(out - 127.5) > 127).mean() > 0.9
    assert out_mask.any((1, 2)).all()


def test_masks_stay_bytes_of_zero_and_one(monuseg):
    _, out_mask = monuseg(jax.random.split(jax.random.key(0), 8), *noise())
    assert out_mask.dtype == jnp.uint8 and set(np.unique(out_mask)) == {0, 1}


# Colour ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
@pytest.mark.parametrize(
    ("kind", "enhancer", "bound"),
    [
        (augment.BRIGHTNESS, ImageEnhance.Brightness, 1.0),  # PIL cuts to whole numbers
        (augment.CONTRAST, ImageEnhance.Contrast, 1.5),  # PIL rounds the mean as well
        (augment.SATURATION, ImageEnhance.Color, 1.5),  # PIL rounds the grey image as well
    ],
)
def test_blends_are_the_enhancers_of_pil(kind, enhancer, bound: float, factor: float):
    image = np.floor(noise()[0] * np.array([1.0, 0.7, 0.3], np.float32))
    truth = enhancer(Image.fromarray(image.astype(np.uint8))).enhance(factor)
    out = blend(jnp.asarray(image), kind, factor)
    assert_within(out, truth, bound, 1e-3)  # float32 tells 255 from its neighbours by 1.5e-5


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.025, 0.3])
def test_the_hue_shift_is_that_of_colorsys(turns: float):
    image = noise(16, 16)[0]
    image[0] = image[0, :, :1]  # grey
    image[1, :, 0] = image[1, :, 1]  # two channels tie
    image[2, :, 1] = image[2, :, 2]
    image[3, 0], image[3, 1] = 0, 255
    truth = []
    for pixel in image.reshape(-1, 3).tolist():
        h, s, v = colorsys.rgb_to_hsv(*(value / 255 for value in pixel))
        truth.append([255 * value for value in colorsys.hsv_to_rgb((h + turns) % 1, s, v)])
    out = augment.shift_hue(jnp.asarray(image), turns)
    np.testing.assert_allclose(out, np.reshape(truth, image.shape), atol=0.01)


def test_jitter_factors_are_uniform_and_not_below_zero():
    mask = np.array([[0, 1]], np.uint8)
    pair = np.array([[[100] * 3, [120] * 3]])  # grey: the difference is scaled by the contrast
    out, out_mask = many(color_jitter(0.6, 0, 0, 0), pair, mask, 2000)
    assert out_mask.dtype == jnp.uint8 and (out_mask == mask).all()
    assert_uniform(out[:, 0, 0, 0] / 100, 0.4, 1.6)
    out, _ = many(color_jitter(0, 0.5, 0, 0), pair, mask, 2000)
    assert_uniform((out[:, 0, 1, 0] - out[:, 0, 0, 0]) / 20, 0.5, 1.5)
    colour = np.array([[[110, 120, 100]] * 2])
    out, _ = many(color_jitter(0, 0, 1.5, 0), colour, mask, 2000)
    assert_uniform((out[:, 0, 0, 1] - out[:, 0, 0, 2]) / 20, 0.0, 2.5)
    out, _ = many(color_jitter(0, 0, 0, 0.1), np.array([[[0, 200, 0]] * 2]), mask, 2000)
    hues = [colorsys.rgb_to_hsv(*pixel)[0] for pixel in np.asarray(out[:, 0, 0]).tolist()]
    assert_uniform(np.array(hues) - 1 / 3, -0.1, 0.1)


def test_jitter_applies_each_change_once_in_every_order(monkeypatch: pytest.MonkeyPatch):
    def write_kind(image: Array, kind: Array, factor: Array) -> Array:
        return jnp.where(factor == 1, image, 10 * image + kind + 1)

    monkeypatch.setattr(augment, "blend", write_kind)
    monkeypatch.setattr(augment, "shift_hue", lambda image, turns: 10 * image + 4)
    blank, mask = np.zeros((1, 1, 3)), np.zeros((1, 1), np.uint8)
    out, _ = many(color_jitter(0.4, 0.4, 0.4, 0.1), blank, mask, 4800)
    codes, counts = np.unique(np.asarray(out[:, 0, 0, 0], int), return_counts=True)
    assert len(codes) == 24 and all(sorted(str(code)) == list("1234") for code in codes)
    assert abs(counts - 200).max() < 70  # five standard deviations
    out, _ = many(color_jitter(0.4, 0, 0.4, 0), blank, mask, 200)
    assert set(np.unique(out).tolist()) == {13, 31}


def test_each_change_keeps_a_factor_of_its_own(monkeypatch: pytest.MonkeyPatch):
    def write_factor(image: Array, kind: Array, factor: Array) -> Array:
        return jnp.where(jnp.arange(3) == kind, image * factor, image)

    monkeypatch.setattr(augment, "blend", write_factor)
    ones, mask = np.ones((1, 1, 3)), np.zeros((1, 1), np.uint8)
    out, _ = many(color_jitter(0.2, 0.4, 0.8, 0), ones, mask, 2000)
    for kind, strength in enumerate((0.2, 0.4, 0.8)):
        assert_uniform(out[:, 0, 0, kind], 1 - strength, 1 + strength)
    assert abs(np.corrcoef(np.asarray(out[:, 0, 0]).T) - np.eye(3)).max() < 0.1


def test_colours_stay_within_0_and_255(monuseg):
    out, _ = monuseg(jax.random.split(jax.random.key(0), 8), *noise())
    assert out.dtype == jnp.float32 and out.min() >= 0 and 254 < out.max() <= 255.001


# All ---------------------------------------------------------------------------------------------


def test_bright_and_dark_are_swapped_in_the_given_share_of_the_images():
    image, mask = noise(4, 6)
    out, out_mask = many(invert(0.3), image, mask, 4000)
    swapped = (np.asarray(out) == 255 - image).all(axis=(1, 2, 3))
    kept = (np.asarray(out) == image).all(axis=(1, 2, 3))
    assert (swapped ^ kept).all() and (np.asarray(out_mask) == mask).all()
    assert abs(swapped.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 4000)


def test_zero_strength_is_the_identity():
    image, mask = noise()
    pieces = [flip(False, False), affine(0, (1.0, 1.0)), color_jitter(0, 0, 0, 0), invert(0)]
    assert all(piece is augment.identity for piece in pieces)
    exact = [chain(), chain(*pieces), affine(0.0, (1.0, 1.0 + 1e-9))]
    for piece in exact:
        out, out_mask = many(piece, image, mask, 2)
        np.testing.assert_array_equal(out[1], image)
        np.testing.assert_array_equal(out_mask[1], mask)


def test_the_same_key_gives_the_same_result_and_other_keys_others(monuseg):
    keys, other_keys = jax.random.split(jax.random.key(0), (2, 8))
    one, again, other = (monuseg(k, *noise()) for k in (keys, keys, other_keys))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({np.asarray(row).tobytes() for row in (*one[0], *other[0])}) == 16


def test_a_row_depends_on_its_own_key_alone(monuseg):
    keys = jax.random.split(jax.random.key(0), 8)
    out, out_mask = monuseg(keys, *noise())
    mixed, mixed_mask = monuseg(jax.random.split(jax.random.key(1), 8).at[5].set(keys[2]), *noise())
    np.testing.assert_array_equal(mixed[5], out[2])
    np.testing.assert_array_equal(mixed_mask[5], out_mask[2])


def test_pieces_of_a_chain_have_keys_of_their_own():
    image, mask = noise(12, 12)
    twice = chain(flip(True, False), flip(True, False))  # one key would always cancel
    out, _ = many(twice, image, mask, 200)
    assert 60 < (out == image).all((1, 2, 3)).sum() < 140
