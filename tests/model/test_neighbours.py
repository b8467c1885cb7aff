"""Neighbours of planes: which planes help, and what is handed on to one of them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from dipfast.images.tiles import Tile
from dipfast.model.neighbours import (
    Neighbours,
    PlaneBlock,
    blocks_of_run,
    find_axis,
    runs_along,
)
from dipfast.model.noise import NoiseModel
from dipfast.model.stretch import Stretch

NOISE = NoiseModel(0.1)


def scene(seed: int, size: int = 48, shift: float = 0.0) -> Tensor:
    """Blobs and stripes, (1, H, W), in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] + shift
    u = 0.3 + 0.2 * np.sin(x * rng.uniform(0.3, 0.7) + y * rng.uniform(-0.7, 0.7))
    for _ in range(12):
        row, column, width, height = rng.uniform((0, 0, 2, -0.4), (size, size, 8, 0.4))
        u += height * ((y - row) ** 2 + (x - column) ** 2 < width**2)
    return torch.from_numpy(u.clip(0, 1)).float()[None]


def noisy(clean: Tensor, seed: int = 0) -> Tensor:
    return NOISE.sample(clean, torch.Generator().manual_seed(seed))


def moving(count: int, seed: int = 0) -> Tensor:
    return torch.stack([scene(seed, shift=0.6 * k) for k in range(count)])


def unrelated(count: int) -> Tensor:
    return torch.stack([scene(seed) for seed in range(10, 10 + count)])


class TestAxes:
    @pytest.mark.parametrize("count", [2, 3, 7])
    def test_planes_that_move_help(self, count: int) -> None:
        assert find_axis(noisy(moving(count)), [count], range(count), NOISE) == 0

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_unrelated_planes_do_not(self, seed: int) -> None:
        assert find_axis(noisy(unrelated(6), seed), [6], range(6), NOISE) is None

    def test_noise_alone_has_no_axis_or_any(self) -> None:
        # Of a flat stack the mean over neighbours is right, too.
        assert find_axis(torch.zeros(4, 1, 32, 32), [4], range(4), NoiseModel(0.0)) is None
        assert find_axis(noisy(moving(1)), [1], range(1), NOISE) is None

    def test_the_axis_that_helps(self) -> None:
        # Along the last axis the scene changes, along the first one it moves.
        stack = torch.stack([moving(4, seed) for seed in (1, 2, 3)], dim=1)
        assert find_axis(noisy(stack.flatten(0, 1)), [4, 3], range(12), NOISE) == 0
        turned = stack.transpose(0, 1).flatten(0, 1)
        assert find_axis(noisy(turned), [3, 4], range(12), NOISE) == 1

    def test_grey_planes_in_colour_are_no_surer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        grey, sure = noisy(moving(3)[..., :32, :32]), []
        for stack in (grey, grey.expand(-1, 3, -1, -1).contiguous()):
            # The number of standard errors up to which the planes help.
            low, high = 1.0, 100.0
            for _ in range(6):
                middle = (low * high) ** 0.5
                monkeypatch.setattr("dipfast.model.neighbours._CLEARLY", middle)
                helps = find_axis(stack, [3], range(3), NOISE) == 0
                low, high = (middle, high) if helps else (low, middle)
            sure.append(low)
        assert 1 < sure[0] < 50
        assert sure[1] == pytest.approx(sure[0], rel=0.2)

    def test_channels_and_small_planes(self) -> None:
        colours = moving(4).expand(-1, 3, -1, -1)
        assert find_axis(noisy(colours), [4], range(4), NOISE) == 0
        tiny = noisy(moving(4)[..., :3, :5])
        assert find_axis(tiny, [4], range(4), NOISE) in (0, None)


class TestRuns:
    def test_lines_of_several_axes(self) -> None:
        assert runs_along([2, 3], 1, range(6)) == [[0, 1, 2], [3, 4, 5]]
        assert runs_along([2, 3], 0, range(6)) == [[0, 3], [1, 4], [2, 5]]

    def test_planes_that_do_not_count_end_a_run(self) -> None:
        assert runs_along([6], 0, [0, 1, 3, 4, 5]) == [[0, 1], [3, 4, 5]]

    def test_a_scene_that_changes_ends_a_run(self) -> None:
        stack = noisy(torch.cat([moving(5, 1), moving(4, 2)]))
        assert runs_along([9], 0, range(9), stack) == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
        assert runs_along([9], 0, range(9)) == [list(range(9))]

    @pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 33, 100])
    @pytest.mark.parametrize("reach", [1, 4, 20])
    def test_blocks_cover_a_run_once(self, length: int, reach: int) -> None:
        blocks = list(blocks_of_run(length, reach))
        assert [k for _, own in blocks for k in own] == list(range(length))
        for around, own in blocks:
            assert around.start == max(own.start - reach, 0)
            assert around.stop == min(own.stop + reach, length)
            assert len(own) <= 16


class TestBlocks:
    def block(self) -> PlaneBlock:
        wrong = torch.zeros(1, 1, 48, 48, dtype=torch.bool)
        wrong[..., 5, 6] = True
        stack = noisy(moving(40))
        stack[3, 0, 5, 6] = 9.0
        return PlaneBlock(stack[:12], 2, 8, 2, tuple(wrong if k == 3 else None for k in range(12)))

    def test_pixels_have_no_outliers(self) -> None:
        block = self.block()
        pixels = block.pixels(range(2, 6))
        assert float(pixels.max()) < 2
        assert torch.equal(pixels[0], block.planes[2])
        assert float(block.planes.max()) == 9  # what was measured stays

    def test_pixels_are_stretched(self) -> None:
        planes = 100 * torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        stretch = Stretch.of(planes, NoiseModel(1.0, 0.5))
        block = PlaneBlock(planes, 0, 3, 1, (None,) * 3, stretch)
        assert torch.equal(block.pixels(range(3)), stretch.forward(planes))

    def test_what_is_kept_is_taken_once(self) -> None:
        block = self.block()
        block.keep("fast", block.planes)
        assert block.take("best", 4) is None
        assert block.take("fast", 1) is None  # only helps
        taken = block.take("fast", 4)
        assert taken is not None
        assert torch.equal(taken, block.planes[4:5])
        assert block.take("fast", 4) is None

    def test_a_pickled_block_does_not_carry_the_stack(self) -> None:
        neighbours = Neighbours(self.block(), 3)
        neighbours.block.keep("fast", neighbours.block.planes)
        data = pickle.dumps(neighbours)
        planes = neighbours.block.planes
        assert len(data) < 4 * planes.numel() + 30_000
        again = pickle.loads(data)
        assert torch.equal(again.block.planes, planes)
        assert again.block.take("fast", 3) is None

    def test_a_tile_has_the_planes_around(self) -> None:
        tile = Tile(4, 2, 10, 12)
        part = Neighbours(self.block(), 3).cut(tile)
        assert len(part.block.planes) == 5
        assert torch.equal(part.block.planes[part.place], self.block().planes[3, :, 4:14, 2:14])
        wrong = part.block.outliers[part.place]
        assert wrong is not None
        assert wrong.nonzero().tolist() == [[0, 0, 1, 4]]
