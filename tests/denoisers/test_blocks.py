"""Tests of blocks: they cover the picture, and what comes out is that of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipfast import ops
from dipfast.denoisers.blocks import blocks_of, in_blocks
from dipfast.denoisers.nl_ridge import nl_ridge_in_blocks
from dipfast.images.tiles import Tile
from dipfast.ops.nl_ridge_sizes import Ridge
from dipfast.settings.noise import BAND_EDGES, NoiseParameters

SIZES = st.integers(1, 400)


@given(st.integers(1, 4), SIZES, SIZES, st.integers(1, 40), st.integers(1, 200_000))
def test_blocks_cover_each_pixel_once_with_all_around_it(channels, height, width, reach, most):
    covered = np.zeros((height, width), int)
    for block, around in blocks_of((channels, height, width), reach, most):
        covered[block.index] += 1
        seen = np.zeros((height, width), bool)
        seen[around.index] = True
        rows = slice(max(block.row - reach, 0), block.row + block.height + reach)
        columns = slice(max(block.column - reach, 0), block.column + block.width + reach)
        assert seen[rows, columns].all()
        assert around.row % 60 == around.column % 60 == 0
    assert (covered == 1).all()


def test_blocks_are_small_enough():
    sizes = [
        3 * around.height * around.width for _, around in blocks_of((3, 4000, 6000), 240, 1 << 24)
    ]
    assert max(sizes) <= 1 << 24
    wide = [around for _, around in blocks_of((1, 3000, 200_000), 240, 1 << 24)]
    assert max(a.height * a.width for a in wide) <= 1 << 24


def test_a_mean_of_neighbours_is_that_of_the_whole():
    picture = np.random.default_rng(0).random((2, 700, 90))

    def mean(part, place, report):
        assert part.shape[1:] == (place.height, place.width)
        np.testing.assert_array_equal(part, picture[(slice(None), *place.index)])
        padded = np.pad(part, ((0, 0), (3, 3), (0, 0)), mode="edge")
        if report is not None:
            report(1.0)
        return sum(padded[:, k : k + part.shape[1]] for k in range(7)) / 7

    shares = []
    result = in_blocks(picture, mean, 3, shares.append, most=10_000)
    np.testing.assert_array_equal(result, mean(picture, Tile(0, 0, 700, 90), None))
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("speed", "channels", "spectrum", "clipped"),
    [
        ("fast", 3, False, False),
        ("fast", 1, True, False),
        ("balanced", 1, False, False),
        ("fast", 1, False, True),
    ],
)
def test_nl_ridge_in_blocks_is_that_of_the_whole(speed, channels, spectrum, clipped, monkeypatch):
    rng = np.random.default_rng(3)
    shape = (channels, 1201, 131)  # halves and quarters are denoised from 64 pixels on
    y = rng.random((channels, 151, 17)).repeat(8, 1).repeat(8, 2)[:, :1201, :131] / 2
    y = (y + rng.normal(0, 0.1, shape)).astype(np.float32)
    bands = (tuple(np.linspace(1.5, 0.2, len(BAND_EDGES) - 1).tolist()),) if spectrum else None
    ends = {"low": 0.0, "high": 1.0} if clipped else {}
    if clipped:
        y = y.clip(0, 1)
    noise = NoiseParameters(0.1, spectrum=bands, **ends)

    whole = ops.nl_ridge(y, noise=noise, speed=speed, channel_axis=0)
    shares = []
    parts = nl_ridge_in_blocks(y, noise, speed, shares.append, most=1)
    # Rounding lets patches that are nearly as similar change places, which later passes amplify.
    differ = np.abs(parts - whole)
    assert differ.max() < (1e-5 if speed == "fast" else 5e-3)
    assert (differ > 1e-5).mean() < 0.01
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    monkeypatch.setattr(Ridge, "reach", lambda self, size: 20)
    near = nl_ridge_in_blocks(y, noise, speed, most=1)
    differ = np.abs(near - whole)
    assert differ.max() > 0.01, "too little around the blocks has to show"
    assert (differ > 1e-4).mean() > 0.1
