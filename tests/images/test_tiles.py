"""Tests of tiles: they cover the picture, and their weights sum up to one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipfast.images.tiles import Tile, Tiles

SIZES = st.integers(1, 150)


@given(SIZES, SIZES, st.integers(2, 60), st.data())
def test_weights_sum_up_to_one(height, width, side, data):
    tiles = Tiles((height, width), side, data.draw(st.integers(0, side // 2)))
    total = np.zeros((height, width))
    for number, tile in enumerate(tiles):
        part = total[tile.index]
        weights = tiles.weights(number)
        assert weights.shape == part.shape == (tile.height, tile.width)
        assert weights.dtype == np.float32
        assert weights.min() >= 0
        part += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(SIZES, SIZES, st.integers(2, 60), st.data())
def test_neighbours_overlap_and_none_is_left_over(height, width, side, data):
    overlap = data.draw(st.integers(0, side // 2))
    tiles = Tiles((height, width), side, overlap)
    for axis, length in ((0, height), (1, width)):
        starts = sorted({(tile.row, tile.column)[axis] for tile in tiles})
        size = min(side, length)
        assert starts[0] == 0
        assert starts[-1] + size == length
        assert all(a + size - b >= overlap for a, b in itertools.pairwise(starts))
        assert len(starts) == 1 or (len(starts) - 1) * (side - overlap) + overlap < length


def test_is_a_sequence_in_order_of_rows():
    tiles = Tiles((100, 90), 40, 8)
    assert tiles.counts == (3, 3)
    assert len(tiles) == 9
    assert tiles[-1] == Tile(60, 50, 40, 40)
    assert tiles[1:3] == [tiles[1], tiles[2]]
    assert [tile.row for tile in tiles] == sorted(tile.row for tile in tiles)
    with pytest.raises(IndexError):
        tiles[9]


def test_weights_have_no_step():
    tiles = Tiles((1, 400), 100, 32)
    for number in range(len(tiles)):
        assert np.abs(np.diff(tiles.weights(number)[0])).max() < 0.1


def test_a_picture_that_fits_is_one_tile_of_full_weight():
    tiles = Tiles((20, 64), 64, 32)
    assert list(tiles) == [Tile(0, 0, 20, 64)]
    assert (tiles.weights(0) == 1).all()


@pytest.mark.parametrize(
    ("size", "side", "overlap"), [((0, 5), 4, 0), ((5, 5), 0, 0), ((5, 5), 4, 3), ((5, 5), 4, -1)]
)
def test_refuses_what_is_out_of_range(size, side, overlap):
    with pytest.raises(ValueError, match="must be"):
        Tiles(size, side, overlap)
