"""The noise of a stack: pooled where planes are alike, and their own where they are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import estimate_noise
from dipfast.model.stack_noise import estimate_stack_noise, spread

COUNT, SIZE = 12, 96
EMPTY = 4


def scene(seed: int) -> Tensor:
    """Blobs of many sizes, in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    u = np.zeros((SIZE, SIZE))
    for _ in range(25):
        row, column, width, height = rng.uniform((0, 0, 2, 0.2), (SIZE, SIZE, 12, 1))
        u += height * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2))
    return torch.from_numpy(u / u.max()).float()


def clean_stack() -> Tensor:
    """Planes of different brightness, one of which is empty, (N, 1, H, W)."""
    brightness = [0.08 + 0.9 * math.sin(math.pi * (k + 0.5) / COUNT) for k in range(COUNT)]
    planes = [0.03 + 0.9 * level * scene(k) for k, level in enumerate(brightness)]
    planes[EMPTY] = torch.full((SIZE, SIZE), 0.03)
    return torch.stack(planes)[:, None]


def noisy_stack(model: NoiseModel) -> Tensor:
    return model.sample(clean_stack(), torch.Generator().manual_seed(0))


def error(found: NoiseModel, true: NoiseModel, plane: Tensor) -> float:
    """How far the standard deviation is off, root mean square of its logarithm."""
    return float((found.variance(plane) / true.variance(plane)).log().div(2).square().mean().sqrt())


@pytest.mark.parametrize(
    "true", [NoiseModel(0.02), NoiseModel(0.005, 0.01), NoiseModel(0.02, 0.001)]
)
def test_pooled_is_no_worse_than_each_plane_by_itself(true: NoiseModel) -> None:
    planes, clean = noisy_stack(true), clean_stack()
    found = estimate_stack_noise(planes)
    assert found.own == {}
    pooled = [error(found.shared.model, true, plane) for plane in clean]
    alone = [error(estimate_noise(plane).model, true, part) for plane, part in zip(planes, clean)]
    assert np.mean(pooled) < np.mean(alone) + 0.015 < 0.15
    assert max(pooled) < max(alone) + 0.03


def test_planes_with_another_noise_have_their_own() -> None:
    planes, clean = noisy_stack(NoiseModel(0.03)), clean_stack()
    for item, factor in ((3, 0.25), (7, 0.25), (9, 3.0)):
        planes[item] = clean[item] + factor * (planes[item] - clean[item])
    found = estimate_stack_noise(planes)
    assert sorted(found.own) == [3, 7, 9]
    sigmas = [found.of(item, planes[item]).model.sigma for item in range(COUNT)]
    true = [0.03 * {3: 0.25, 7: 0.25, 9: 3.0}.get(item, 1.0) for item in range(COUNT)]
    np.testing.assert_allclose(sigmas, true, rtol=0.15)


def test_planes_that_have_no_noise_in_common() -> None:
    planes, clean = noisy_stack(NoiseModel(0.01)), clean_stack()
    factors = [1.7 ** (item % 6) for item in range(COUNT)]
    for item, factor in enumerate(factors):
        planes[item] = clean[item] + factor * (planes[item] - clean[item])
    found = estimate_stack_noise(planes)
    sigmas = [found.of(item, planes[item]).model.sigma for item in range(COUNT)]
    assert len(found.own) == COUNT
    np.testing.assert_allclose(sigmas, [0.01 * factor for factor in factors], rtol=0.2)


def test_texture_is_no_noise() -> None:
    planes = noisy_stack(NoiseModel(0.03))
    alone = estimate_noise(planes[5]).model.sigma
    waves = torch.arange(SIZE) * 1.3
    planes[5] += 0.05 * waves.sin() * waves.cos()[:, None]
    found = estimate_stack_noise(planes)
    used = found.of(5, planes[5]).model.sigma
    assert found.shared.model.sigma == pytest.approx(alone, rel=0.1)
    # What the details look like was looked into, and the estimate of the plane itself decides.
    assert 5 in found.own or used == found.shared.model.sigma


def test_constant_planes() -> None:
    planes = noisy_stack(NoiseModel(0.03))
    planes[0] = 0.2
    found = estimate_stack_noise(planes)
    assert 0 not in found.planes
    assert found.of(0, planes[0]).model.is_free
    # Also where it was said how strong the noise of the others is.
    for kind in ("auto", "gaussian", "clipped", "poisson_gaussian", "correlated"):
        told = estimate_stack_noise(planes, kind, sigma=0.03)
        assert told.shared.model.sigma == 0.03
        assert told.of(0, planes[0]).model.is_free
        assert set(told.own) == {0}
    every = estimate_stack_noise(torch.full((3, 1, 9, 9), 0.5))
    assert every.shared.model.is_free


def test_sigma_that_is_known_is_that_of_all() -> None:
    planes = noisy_stack(NoiseModel(0.03))
    planes[3] = clean_stack()[3] + 3 * (planes[3] - clean_stack()[3])
    found = estimate_stack_noise(planes, "gaussian", sigma=0.05)
    assert found.own == {}
    assert found.shared.model.sigma == 0.05


def test_missing_values_do_not_count() -> None:
    planes = noisy_stack(NoiseModel(0.03))
    known = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    known[:, ::3] = False
    spoilt = planes.clone()
    spoilt[:, :, ::3] = torch.nan
    found = estimate_stack_noise(spoilt, known=[known] * COUNT)
    assert found.shared.model.sigma == pytest.approx(0.03, rel=0.2)
    assert found.own == {}


def test_outliers_are_those_of_each_plane() -> None:
    planes = noisy_stack(NoiseModel(0.02))
    planes[2, 0, 40, 50] = 1.5
    found = estimate_stack_noise(planes)
    outliers = found.of(2, planes[2]).outliers
    assert outliers is not None
    assert bool(outliers[0, 40, 50])
    assert found.of(EMPTY, planes[EMPTY]).outliers is None


def test_large_planes_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    from dipfast.model import stack_noise

    seen = []

    def look(picture: Tensor, *arguments: object, **options: object) -> object:
        seen.append(tuple(picture.shape))
        return estimate_noise(picture)

    monkeypatch.setattr(stack_noise, "estimate_noise", look)
    monkeypatch.setattr(stack_noise, "_MOST_PIXELS", 20 * SIZE)
    stack_noise.estimate_stack_noise(noisy_stack(NoiseModel(0.03)))
    assert seen[0] == (1, 8 * 20, SIZE)


def test_spread() -> None:
    assert spread(range(3)) == [0, 1, 2]
    assert spread([5, 7, 9, 11, 13], 3) == [5, 9, 13]
