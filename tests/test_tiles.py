"""Cutting an image into tiles and pasting them."""

import numpy as np
import pytest

from segdiff_jax.data.tiles import cut, paste, positions
from segdiff_jax.errors import UserError

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


@pytest.mark.parametrize(("height", "width", "size", "stride"), SIZES)
def test_paste_inverts_cut(height: int, width: int, size: int, stride: int):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    tiles = cut(image, size, stride)
    assert tiles.shape[1:] == (size, size, 3) and tiles.dtype == np.uint8
    out = paste(np.moveaxis(tiles, -1, 0), (height, width), stride)
    assert out.shape == (3, height, width) and out.dtype == np.float32
    np.testing.assert_allclose(np.moveaxis(out, 0, -1), image, atol=1e-4)


def test_a_512_image_has_four_tiles_row_by_row():
    assert positions(512, 512, 256, 256) == [(0, 0), (0, 256), (256, 0), (256, 256)]
    quarters = np.repeat(np.repeat([[1, 2], [3, 4]], 256, 0), 256, 1)[..., None]
    tiles = cut(quarters, 256, 256)
    assert tiles.shape == (4, 256, 256, 1)
    assert [set(tile.flat) for tile in tiles] == [{1}, {2}, {3}, {4}]


def test_the_last_row_and_column_are_shifted_inward():
    assert positions(5, 9, 4, 4) == [(0, 0), (0, 4), (0, 5), (1, 0), (1, 4), (1, 5)]


@pytest.mark.parametrize(("height", "width", "size", "stride"), SIZES)
def test_every_pixel_is_covered_and_no_tile_twice(height: int, width: int, size: int, stride: int):
    corners = positions(height, width, size, stride)
    covered = np.zeros((max(height, size), max(width, size)), int)
    for y, x in corners:
        part = covered[y : y + size, x : x + size]
        assert part.shape == (size, size)
        part += 1
    assert covered.min() >= 1 and len(set(corners)) == len(corners)


@pytest.mark.parametrize(("height", "width", "size", "stride"), [(11, 8, 4, 3), (3, 10, 4, 2)])
def test_overlaps_are_averaged(height: int, width: int, size: int, stride: int):
    corners = positions(height, width, size, stride)
    tiles = np.random.default_rng(0).random((len(corners), size, size))
    out = paste(tiles, (height, width), stride)
    for y in range(height):
        for x in range(width):
            values = [
                tiles[i, y - top, x - left]
                for i, (top, left) in enumerate(corners)
                if 0 <= y - top < size and 0 <= x - left < size
            ]
            assert abs(out[y, x] - sum(values) / len(values)) < 1e-12


def test_leading_axes_are_pasted_one_by_one():
    tiles = np.random.default_rng(0).random((2, 3, 4, 8, 8)).astype(np.float32)
    out = paste(tiles, (13, 14), 8)
    assert out.shape == (2, 3, 13, 14)
    np.testing.assert_array_equal(out[1, 2], paste(tiles[1, 2], (13, 14), 8))


def test_a_small_image_is_continued_by_reflection():
    image = np.arange(3)[None, :, None] + np.zeros((4, 1, 1), int)
    assert cut(image, 4, 4)[0, :, :, 0].tolist() == [[0, 1, 2, 1]] * 4
    assert cut(image, 8, 8)[0, 0, :, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert cut(np.full((1, 1, 3), 7), 4, 4).tolist() == np.full((1, 4, 4, 3), 7).tolist()


@pytest.mark.parametrize("stride", [0, -1, 17])
def test_a_stride_that_leaves_gaps_is_refused(stride: int):
    with pytest.raises(UserError, match=f"sampling.stride = {stride}: must be 1..16"):
        cut(np.zeros((64, 64, 3)), 16, stride)


def test_tiles_of_another_image_are_refused():
    with pytest.raises(ValueError, match="3 tiles.* has 4"):
        paste(np.zeros((3, 8, 8)), (16, 16), 8)
