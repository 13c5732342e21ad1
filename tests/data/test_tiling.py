"""Cutting an image into tiles, and putting tiles together row by row."""

import numpy as np
import pytest

from segdiff_jax.data.tiling import Grid, RowBlender, extract_tiles, grid

SIZES = [
    # height, width, size, stride
    (512, 512, 256, 256),
    (512, 512, 256, 128),
    (16, 16, 16, 16),
    (37, 53, 16, 16),
    (53, 37, 16, 5),
    (17, 16, 16, 16),
    (10, 40, 16, 12),
    (40, 10, 16, 12),
    (5, 3, 16, 7),
    (1, 1, 8, 8),
    (1, 30, 8, 3),
]


def paste(tiles, places: Grid) -> np.ndarray:
    """All bands of tiles [..., N, h, w], checked to follow one another without a gap."""
    strip, bands = RowBlender(places, tiles.shape[:-3]), []
    for i in range(tiles.shape[-3]):
        band = strip.add(tiles[..., i, :, :])
        if band is not None:
            assert band.top == sum(b.values.shape[-2] for b in bands)
            bands.append(band)
    return np.concatenate([band.values for band in bands], axis=-2)


@pytest.mark.parametrize(("height", "width", "size", "stride"), SIZES)
def test_tiles_of_an_image_make_the_image_again(height, width, size, stride):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    places = grid(image.shape, size, stride, 1)
    tiles = np.stack(list(extract_tiles(image, places)))
    assert tiles.shape == (len(places.corners), *places.tile, 3) and tiles.dtype == np.uint8
    out = paste(np.moveaxis(tiles, -1, 0).astype(np.float32), places)
    assert out.shape == (3, height, width) and out.dtype == np.float32
    tiles_of_a_pixel = (-(-size // stride) + 1) ** 2  # at most; their sum and that of their weights
    near = 2 * tiles_of_a_pixel * 2**-24 * 255
    np.testing.assert_allclose(np.moveaxis(out, 0, -1), image, rtol=0, atol=near)


def test_a_512_image_has_four_tiles_row_by_row():
    places = grid((512, 512), 256, 256, 64)
    assert places.corners == [(0, 0), (0, 256), (256, 0), (256, 256)]
    quarters = np.repeat(np.repeat([[1, 2], [3, 4]], 256, 0), 256, 1)[..., None]
    tiles = list(extract_tiles(quarters, places))
    assert [tile.shape for tile in tiles] == [(256, 256, 1)] * 4
    assert [set(tile.flat) for tile in tiles] == [{1}, {2}, {3}, {4}]


def test_the_last_row_and_column_are_shifted_inward():
    corners = grid((5, 9), 4, 4, 1).corners
    assert corners == [(0, 0), (0, 4), (0, 5), (1, 0), (1, 4), (1, 5)]


@pytest.mark.parametrize(("height", "width", "size", "stride"), SIZES)
def test_every_pixel_is_covered_and_no_tile_twice(height, width, size, stride):
    places = grid((height, width), size, stride, 1)
    h, w = places.tile
    covered = np.zeros((max(height, h), max(width, w)), int)
    for y, x in places.corners:
        part = covered[y : y + h, x : x + w]
        assert part.shape == (h, w)
        part += 1
    assert covered.min() >= 1 and len(set(places.corners)) == len(places.corners)


@pytest.mark.parametrize(
    ("height", "width", "size", "stride"), [(11, 8, 4, 3), (30, 10, 4, 2), (9, 9, 4, 4)]
)
def test_overlaps_are_the_mean_of_the_tiles_weighted_by_the_squared_distance_to_their_edge(
    height, width, size, stride
):
    places = grid((height, width), size, stride, 1)
    tiles = np.random.default_rng(0).random((len(places.corners), size, size)).astype(np.float32)
    out = paste(tiles, places)

    def weight(i):  # of one axis
        if stride == size:
            return 1.0
        return min(1.0, (min(i, size - 1 - i) + 0.5) / (size - stride)) ** 2

    for y in range(height):
        for x in range(width):
            pairs = [
                (weight(y - top) * weight(x - left), tiles[i, y - top, x - left])
                for i, (top, left) in enumerate(places.corners)
                if 0 <= y - top < size and 0 <= x - left < size
            ]
            truth = sum(w * v for w, v in pairs) / sum(w for w, _ in pairs)
            assert out[y, x] == pytest.approx(truth, abs=1e-6)


def test_tiles_that_disagree_fade_into_each_other_without_a_jump():
    places = grid((16, 64), 16, 8, 1)
    levels = np.arange(len(places.corners)) % 2  # neighbours say 0 and 1
    out = paste(np.ones((len(levels), 16, 16), np.float32) * levels[:, None, None], places)
    assert out.min() >= 0 and out.max() <= 1
    # a step of 1 over 8 pixels: at most twice as steep as a straight fade, and flat where it begins
    assert np.abs(np.diff(out, axis=1)).max() < 2 / 8
    assert np.abs(out[:, 8] - out[:, 7]).max() < 0.01


def test_leading_axes_are_pasted_one_by_one():
    places = grid((13, 14), 8, 8, 1)
    tiles = np.random.default_rng(0).random((2, 3, 4, 8, 8)).astype(np.float32)
    out = paste(tiles, places)
    assert out.shape == (2, 3, 13, 14)
    np.testing.assert_array_equal(out[1, 2], paste(tiles[1, 2], places))


def test_a_band_is_given_as_soon_as_no_later_tile_touches_it():
    places = grid((20, 10), 8, 6, 1)  # rows of tiles at 0, 6, 12
    assert [y for y, _ in places.corners] == [0, 0, 6, 6, 12, 12]
    strip = RowBlender(places)
    bands = [strip.add(np.ones((8, 8), np.float32)) for _ in places.corners]
    assert [band and (band.top, band.values.shape) for band in bands] == [
        *(None, (0, (6, 10)), None, (6, (6, 10)), None, (12, (8, 10))),
    ]


def test_a_small_image_is_continued_by_reflection():
    image = np.arange(3)[None, :, None] + np.zeros((4, 1, 1), int)
    (tile,) = extract_tiles(image, grid(image.shape, 0, 0, 4))
    assert tile[:, :, 0].tolist() == [[0, 1, 2, 1]] * 4
    (tile,) = extract_tiles(image, grid(image.shape, 8, 8, 8))
    assert tile[0, :, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    (tile,) = extract_tiles(np.full((1, 1, 3), 7), grid((1, 1), 4, 4, 4))
    assert tile.tolist() == np.full((4, 4, 3), 7).tolist()


@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        ((256, 256), 256),
        ((1000, 960), 256),
        ((128, 64), 128),  # half a tile
        ((129, 64), 256),
        ((64, 64), 64),  # a quarter
        ((48, 60), 64),  # multiples of what the network needs as well
        ((1, 1), 64),
        ((100, 1000), 256),
        ((250, 16), 256),
    ],
)
def test_tiles_are_squares_of_three_sizes(shape, tile):
    assert grid(shape, 256, 192, 16).tile == (tile, tile)


@pytest.mark.parametrize(
    ("size", "multiple", "sides"), [(256, 64, {64, 128, 256}), (96, 16, {48, 96}), (48, 16, {48})]
)
def test_images_of_every_size_have_tiles_of_at_most_three_that_the_network_takes(
    size, multiple, sides
):
    shapes = [(h, w) for h in range(1, 2 * size, 7) for w in range(1, 2 * size, 5)]
    tiles = [grid(shape, size, size, multiple).tile for shape in shapes]
    assert {side for tile in tiles for side in tile} == sides
    for shape, tile in zip(shapes, tiles, strict=True):
        assert all(side % multiple == 0 for side in tile) and tile[0] == tile[1]
        assert tile[0] == size or tile[0] >= max(shape)


def test_without_tiles_an_image_is_filled_up_to_what_the_network_takes():
    assert grid((100, 300), 0, 0, 16).tile == (112, 304)
    assert grid((96, 304), 0, 0, 16).tile == (96, 304)
