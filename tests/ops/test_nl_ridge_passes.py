"""Tests of the tables of passes: every picture has some, and blocks can be cut where they begin."""

import pytest

from dipfast.denoisers.blocks import GRID
from dipfast.ops._nl_ridge_passes import Speed, first_share, passes_of

LEVELS = [1e-6, 7.9 / 255, 8 / 255, 12 / 255, 25 / 255, 35 / 255, 50 / 255, 75 / 255, 1e3]
SPEEDS: tuple[Speed, ...] = ("fast", "balanced", "best")


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("speed", SPEEDS)
def test_passes_leave_no_pixel_out_and_begin_where_blocks_do(
    speed: Speed, channels: int, correlated: bool, depth: int
) -> None:
    for level in LEVELS:
        passes = passes_of(channels, level, correlated, speed, depth)
        assert len(passes) >= 2
        assert passes[0].kept == passes[-1].kept == 1
        for one in passes:
            assert one.step <= one.patch, "pixels between patches would be in none"
            assert GRID % one.step == 0
            assert 0 < one.kept <= 1
        assert first_share(channels, level, correlated, depth) >= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("speed", SPEEDS)
def test_patches_do_not_shrink_as_noise_grows(speed: Speed, channels: int) -> None:
    sizes = [sum(p.patch for p in passes_of(channels, x, False, speed)) for x in LEVELS]
    from_weak = sizes[3:]  # there are fewer passes below
    assert from_weak == sorted(from_weak)
