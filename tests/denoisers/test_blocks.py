"""Tests of blocks: they cover the picture, and what comes out is that of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipfast import ops
from dipfast.denoisers import nl_ridge as module
from dipfast.denoisers.blocks import blocks_of, in_blocks
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
        assert around.row % 240 == around.column % 240 == 0
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

    def mean(part, report):
        padded = np.pad(part, ((0, 0), (3, 3), (0, 0)), mode="edge")
        if report is not None:
            report(1.0)
        return sum(padded[:, k : k + part.shape[1]] for k in range(7)) / 7

    shares = []
    result = in_blocks(picture, mean, 3, shares.append, most=10_000)
    np.testing.assert_array_equal(result, mean(picture, None))
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("speed", "channels", "spectrum"),
    [("fast", 3, False), ("fast", 1, True), ("balanced", 1, False)],
)
def test_nl_ridge_in_blocks_is_that_of_the_whole(speed, channels, spectrum):
    rng = np.random.default_rng(3)
    shape = (channels, 1200, 72)  # halves and quarters are denoised from 64 pixels on
    y = rng.random((channels, 150, 9)).repeat(8, 1).repeat(8, 2) / 2
    y = (y + rng.normal(0, 0.1, shape)).astype(np.float32)
    bands = (tuple(np.linspace(1.5, 0.2, len(BAND_EDGES) - 1).tolist()),) if spectrum else None
    noise = NoiseParameters(0.1, spectrum=bands)

    def method(part, report):
        return ops.nl_ridge(part, noise=noise, speed=speed, channel_axis=0, callback=report)

    whole = method(y, None)
    parts = in_blocks(y, method, module.REACH, most=1)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    near = in_blocks(y, method, 20, most=1)
    assert np.abs(near - whole).max() > 1e-4, "too little around the blocks has to show"
