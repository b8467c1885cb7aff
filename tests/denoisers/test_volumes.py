"""Planes of a stack that are denoised as a volume, one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dipfast import ops
from dipfast.denoisers import volumes
from dipfast.denoisers.direct import denoise_directly
from dipfast.model.bootstrap import Split, added_noise
from dipfast.model.neighbours import Neighbours, PlaneBlock
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Identity
from dipfast.model.problem import Problem
from dipfast.ops.nl_ridge_sizes import Ridge

NOISE = NoiseModel(0.1)


def planes(count: int = 5, size: tuple[int, int] = (32, 40)) -> Tensor:
    y, x = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    clean = torch.stack([0.5 + 0.4 * torch.sin(0.3 * x + 0.2 * y + 0.2 * k) for k in range(count)])
    return NOISE.sample(clean[:, None], torch.Generator().manual_seed(0))


def problem_of(stack: Tensor, place: int, first: int = 0) -> Problem:
    block = PlaneBlock(stack, first, len(stack), 2, (None,) * len(stack))
    neighbours = Neighbours(block, place)
    return Problem(stack[place : place + 1], Identity(), NOISE, neighbours=neighbours)


def volume_of(stack: Tensor) -> np.ndarray:
    return ops.nl_ridge(
        stack[:, 0].numpy(), noise=NOISE, speed="fast", spatial_dims=3, neighbours=2
    )


def test_a_plane_is_that_of_the_volume() -> None:
    stack = planes()
    found = denoise_directly(problem_of(stack, 3), "fast")
    np.testing.assert_array_equal(found[0, 0].numpy(), volume_of(stack)[3])


def test_the_volume_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stack, calls, made = planes(), [], volumes.denoise_channels

    def counted(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        return made(*arguments, **options)

    monkeypatch.setattr(volumes, "denoise_channels", counted)
    first = problem_of(stack, 0, first=0)
    assert first.neighbours is not None
    block = first.neighbours.block
    shares = []
    for place in range(5):
        y = stack[place : place + 1]
        plane = Problem(y, Identity(), NOISE, neighbours=Neighbours(block, place))
        denoise_directly(plane, "fast", lambda share, image: shares.append(share))
    assert len(calls) == 1
    assert shares[-1] == 1


def test_what_ends_it_leaves_nothing_behind() -> None:
    problem = problem_of(planes(), 2)

    def end(share: float, image: Tensor | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_directly(problem, "fast", end)
    assert problem.neighbours is not None
    assert problem.neighbours.block.take("fast", 2) is None


def test_only_the_plane_itself_has_added_noise() -> None:
    stack = planes()
    problem = problem_of(stack, 2)
    y = problem.measurement
    split = Split(y, added_noise(y, NOISE, 0))
    noisier = Problem(split.fitted, Identity(), NOISE, split=split, neighbours=problem.neighbours)
    found = denoise_directly(noisier, "fast")
    other = stack.clone()
    other[2] = split.fitted[0]
    np.testing.assert_allclose(found[0, 0].numpy(), volume_of(other)[2], atol=0.02)
    assert not torch.equal(found, denoise_directly(problem, "fast"))
    torch.testing.assert_close(stack, planes())  # what was measured stays


def test_large_planes_are_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = planes(3, (600, 24))
    whole = denoise_directly(problem_of(stack, 1), "fast")
    monkeypatch.setattr(volumes, "MOST_OF_VOLUME", 3 * 24 * 400)
    in_parts = denoise_directly(problem_of(stack, 1), "fast")
    torch.testing.assert_close(in_parts, whole, atol=1e-5, rtol=0)
    monkeypatch.setattr(Ridge, "reach", lambda self, size: 60)
    in_parts = denoise_directly(problem_of(stack, 1), "fast")
    torch.testing.assert_close(in_parts, whole, atol=2e-3, rtol=0)
    assert not torch.equal(in_parts, whole)


def test_colours() -> None:
    stack = planes().expand(-1, 3, -1, -1).clone()
    stack += 0.05 * torch.randn(stack.shape, generator=torch.Generator().manual_seed(1))
    found = denoise_directly(problem_of(stack, 1), "fast")
    volume = stack.swapaxes(0, 1).numpy()
    told = {"noise": NOISE, "speed": "fast", "spatial_dims": 3, "neighbours": 2}
    wanted = ops.nl_ridge(np.ascontiguousarray(volume), channel_axis=0, **told)
    np.testing.assert_array_equal(found[0].numpy(), wanted[:, 1])
