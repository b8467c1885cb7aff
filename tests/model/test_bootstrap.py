"""The two halves of a measurement: their law, and that one tells nothing of the other's noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dipfast.model.bootstrap import RATIO, Split, added_noise, noisier
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_spectrum import autocorrelation, coloured

COARSE = ((1.9, 1.7, 1.4, 1.1, 0.8, 0.5, 0.3),)
OF_COLOURS = ((1.9, 1.7, 1.4, 1.1, 0.8, 0.5, 0.3), (1.0,) * 7, (0.5,) * 7)
NOISES = {
    "white": NoiseModel(0.1),
    "clipped": NoiseModel(0.1, low=0.0, high=1.0),
    "photons": NoiseModel(0.02, gain=0.02),
    "coarse": NoiseModel(0.1, spectrum=COARSE),
    "coarse, colours": NoiseModel(0.1, spectrum=OF_COLOURS),
}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
class TestAddedNoise:
    def test_has_the_variance_of_the_measurement_everywhere(self, noise: NoiseModel) -> None:
        clean = torch.linspace(0, 1, 3 * 96 * 96).reshape(1, 3, 96, 96)
        drawn = torch.stack([added_noise(clean, noise, seed) for seed in range(60)])
        for part, whole in zip(drawn.chunk(4, dim=3), clean.chunk(4, dim=2)):
            measured, expected = map(float, (part.square().mean(), noise.variance(whole).mean()))
            if noise.spectrum is None:
                assert measured == pytest.approx(expected, rel=0.02)
        spectrum = noise.spectrum or ((1.0,) * 7,)
        power = np.square(spectrum).mean(axis=0) @ _sizes()
        expected = float(power * noise.variance(clean).mean())
        assert float(drawn.square().mean()) == pytest.approx(expected, rel=0.03)

    def test_is_the_same_for_the_same_seed(self, noise: NoiseModel) -> None:
        pilot = torch.rand(1, 3, 20, 24)
        first, again, other = (added_noise(pilot, noise, seed) for seed in (5, 5, 6))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert first.dtype == pilot.dtype

    def test_leaves_the_halves_uncorrelated(self, noise: NoiseModel) -> None:
        if noise.spectrum is not None:
            pytest.skip("samples of a model are those of single pixels")
        clean = torch.linspace(0, 1, 32 * 32).reshape(1, 1, 32, 32)
        generator = torch.Generator().manual_seed(0)
        product, square = 0.0, 0.0
        for seed in range(300):
            y = noise.sample(clean, generator)
            split = Split(y, added_noise(clean, noise, seed))
            expected = noise.expectation(clean)
            product = product + (split.fitted - expected) * (split.unseen - expected) / 300
            square = square + (y - expected).square() / 300
        # The product of a pixel has a standard deviation of 1 / c variances.
        error = 1 / RATIO / (300 * 32 * 32) ** 0.5
        assert abs(float(product.mean() / square.mean())) < 5 * error


def _sizes() -> np.ndarray:
    frequency = np.abs(np.fft.fftfreq(512))
    radius = np.hypot(frequency[:, None], frequency)
    bands = np.digitize(radius, (0.08, 0.125, 0.1875, 0.25, 0.36, 0.5))
    return np.bincount(bands.ravel(), minlength=7) / bands.size


def test_coloured_noise_has_the_autocorrelation_of_its_spectrum() -> None:
    white = np.random.default_rng(0).normal(size=(1, 512, 512))
    planes = coloured(white, COARSE)[0]
    for rows, columns in ((0, 1), (1, 1), (0, 3)):
        shifted = np.roll(planes, (-rows, -columns), (0, 1))
        measured = (planes * shifted).mean() / np.square(planes).mean()
        assert measured == pytest.approx(autocorrelation(COARSE, rows, columns), abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 7), (1, 5, 2), (4, 6, 6)])
def test_a_flat_spectrum_leaves_white_noise_as_it_is(shape: tuple[int, int, int]) -> None:
    white = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_allclose(coloured(white, ((1.0,) * 7,)), white, atol=1e-12)


def test_halves_join_to_the_measurement() -> None:
    y, w = torch.rand(2, 1, 3, 4, 5).double()
    split = Split(y, w, 0.3)
    joined = (split.fitted + 0.3**2 * split.unseen) / (1 + 0.3**2)
    torch.testing.assert_close(joined, y)


def test_the_noise_of_the_fitted_half() -> None:
    more = noisier(NoiseModel(0.1, 0.02, low=0.0), 0.5)
    clean = torch.linspace(0.5, 1, 5)
    expected = 1.25 * NoiseModel(0.1, 0.02).variance(clean)
    torch.testing.assert_close(NoiseModel(more.sigma, more.gain).variance(clean), expected)
    assert more.low == 0.0


def test_noise_of_a_grey_picture_in_colour_is_the_same_in_all_channels() -> None:
    grey = torch.rand(1, 1, 24, 24).expand(1, 3, -1, -1)
    row = (0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1)
    for noise in (NoiseModel(0.1), NoiseModel(0.1, spectrum=(row,))):
        drawn = added_noise(grey, noise, 0)
        assert torch.equal(drawn[:, :1].expand_as(drawn), drawn)
    colour = added_noise(torch.rand(1, 3, 24, 24), NoiseModel(0.1), 0)
    assert not torch.equal(colour[:, :1].expand_as(colour), colour)
