"""Test the join of a network's image with the filtered measurement."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dipfast.model import wiener
from dipfast.model.noise import NoiseModel
from dipfast.model.wiener import join_measurement
from dipfast.ops import psnr
from dipfast.settings.noise import BAND_EDGES

COARSE = (tuple(4 * 0.5**k for k in range(len(BAND_EDGES) - 1)),)


def picture(size: int = 96) -> Tensor:
    """Return the middle of a photograph, (1, 3, size, size)."""
    image = skimage.data.astronaut()[20 : 20 + size, 180 : 180 + size]
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def blurred(image: Tensor) -> Tensor:
    """Return what a network is like that left out the details."""
    return torch.nn.functional.avg_pool2d(image, 5, 1, 2, count_include_pad=False)


def noise_like(shape: torch.Size, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1])
def test_brings_details_back(sigma: float) -> None:
    clean = picture()
    noisy = clean + sigma * noise_like(clean.shape)
    image = blurred(clean)
    joined = join_measurement(image, noisy, NoiseModel(sigma))
    best_of_both = max(float(psnr(x, clean, data_range=1.0)) for x in (image, noisy))
    assert psnr(joined, clean, data_range=1.0) > best_of_both + 1


def test_a_perfect_image_stays_nearly_so() -> None:
    clean = picture()
    noisy = clean + 0.1 * noise_like(clean.shape)
    joined = join_measurement(clean, noisy, NoiseModel(0.1))
    assert psnr(joined, clean, data_range=1.0) > psnr(noisy, clean, data_range=1.0) + 10


def test_without_noise_the_measurement_comes_back() -> None:
    clean = picture()
    assert torch.equal(join_measurement(blurred(clean), clean, NoiseModel(0.0)), clean)
    known = torch.rand(1, 1, *clean.shape[2:]) > 0.3
    joined = join_measurement(blurred(clean), clean, NoiseModel(0.0), known)
    assert torch.equal(joined, torch.where(known, clean, blurred(clean)))


def test_small_images_stay_as_they_are() -> None:
    image = torch.rand(1, 2, 15, 40)
    assert join_measurement(image, torch.rand(1, 2, 15, 40), NoiseModel(0.1)) is image


def test_what_is_unknown_has_no_influence() -> None:
    clean = picture(48)
    known = noise_like(clean.shape) > -1
    noisy = clean + 0.05 * noise_like(clean.shape, 1)
    image = blurred(clean)
    first, second = (
        join_measurement(image, torch.where(known, noisy, fill), NoiseModel(0.05), known)
        for fill in (torch.tensor(0.0), torch.tensor(9.0))
    )
    assert torch.equal(first, second)


def test_the_level_is_kept() -> None:
    """The mean of the measurement comes back where that of the image is off."""
    noisy = 0.4 + 0.1 * noise_like(torch.Size((1, 1, 128, 128)))
    joined = join_measurement(torch.full_like(noisy, 0.5), noisy, NoiseModel(0.1))
    assert float((joined - noisy).mean()) == pytest.approx(0, abs=0.002)


def test_coarse_noise_is_filtered_by_its_spectrum() -> None:
    clean = torch.full((1, 1, 128, 128), 0.5)
    fine = noise_like(clean.shape)
    coarse = torch.nn.functional.avg_pool2d(fine, 5, 1, 2) * 5
    noisy = clean + 0.05 * coarse
    white, shaped = (
        join_measurement(clean, noisy, NoiseModel(0.05, spectrum=spectrum))
        for spectrum in (None, COARSE)
    )
    errors = [float((x - clean).std()) for x in (noisy, white, shaped)]
    assert errors[2] < 0.7 * errors[1] < 0.7 * errors[0]


@settings(max_examples=20)
@given(
    channels=st.integers(1, 4),
    height=st.integers(16, 50),
    width=st.integers(16, 50),
    double=st.booleans(),
    gain=st.sampled_from([0.0, 0.01]),
    seed=st.integers(0, 99),
)
def test_of_every_shape(
    channels: int, height: int, width: int, double: bool, gain: float, seed: int
) -> None:
    dtype = torch.float64 if double else torch.float32
    image, noisy = (
        noise_like(torch.Size((1, channels, height, width)), seed + k).to(dtype) for k in (0, 1)
    )
    joined = join_measurement(image, noisy, NoiseModel(0.1, gain))
    assert joined.shape == image.shape
    assert joined.dtype == dtype
    assert joined.isfinite().all()


def test_flux_of_small_parts_is_kept() -> None:
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    clean = torch.full((1, 1, 128, 128), 0.1)
    places = [(row, column) for row in range(16, 120, 16) for column in range(16, 120, 16)]
    for row, column in places:
        clean += 0.1 * torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2.25)
    noisy = clean + 0.03 * noise_like(clean.shape)
    near = [(rows - row) ** 2 + (columns - column) ** 2 <= 16 for row, column in places]
    image = torch.full_like(clean, 0.1)  # without a single star

    def flux(picture: Tensor) -> float:
        return float(sum((picture - 0.1)[0, 0][disc].sum() for disc in near))

    plain, kept = (
        join_measurement(image, noisy, NoiseModel(0.03), keeps_flux=keeps)
        for keeps in (False, True)
    )
    assert flux(kept) == pytest.approx(flux(noisy), rel=0.05)
    assert flux(plain) < 0.9 * flux(noisy)
    assert (kept - clean).square().mean() < 0.2 * (noisy - clean).square().mean()


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = picture(80)
    noisy = clean + 0.1 * noise_like(clean.shape)
    results = []
    for rows in (1, 7, 1000):
        monkeypatch.setattr(wiener, "_ROWS_AT_A_TIME", rows)
        results.append(join_measurement(blurred(clean), noisy, NoiseModel(0.1)))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=0, atol=1e-5)


def test_photon_noise_is_filtered_by_the_brightness() -> None:
    """Dark places, whose noise is weak, keep what bright ones lose."""
    rows = torch.linspace(0, 40 * math.pi, 128)
    texture = 0.02 * rows.sin().expand(128, 128)
    clean = torch.cat([0.05 + texture, 0.9 + texture], dim=1)[None, None]
    model = NoiseModel(0.0, gain=0.004)
    noisy = model.sample(clean, torch.Generator().manual_seed(0))
    joined = join_measurement(blurred(clean), noisy, model)
    errors = (joined - clean).square().mean(dim=(0, 1, 2)).sqrt().numpy()
    assert np.mean(errors[:120]) < 0.4 * np.mean(errors[-120:])
