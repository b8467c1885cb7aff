"""The two halves of a measurement: their law, and that one tells nothing of the other's noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dipfast.model.bootstrap import RATIO, Split, added_noise, dependence, noisier
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
        expected = float(noise.variance(clean).mean())
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


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 6), (3, 5, 2), (1, 7, 7), (3, 64, 48)])
@pytest.mark.parametrize("spectrum", [COARSE, OF_COLOURS, ((9.0, 7.0, 4.0, 1.0, 0.1, 0.0, 0.0),)])
def test_coloured_noise_has_variance_one(
    shape: tuple[int, int, int], spectrum: tuple[tuple[float, ...], ...]
) -> None:
    if len(spectrum) > shape[0]:
        spectrum = spectrum[:1]
    # Summed over what a single number becomes, wherever it is.
    response = 0.0
    for channel in range(shape[0]):
        white = np.zeros(shape)
        white[channel, 0, -1] = 1
        response += float(np.square(coloured(white, spectrum)).sum()) / shape[0]
    assert response == pytest.approx(1)


def test_coloured_noise_without_a_level_is_none() -> None:
    assert not coloured(np.ones((1, 4, 4)), ((0.0,) * 7,)).any()


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


@pytest.mark.parametrize("spectrum", [None, COARSE, OF_COLOURS])
def test_dependence_is_that_of_mean_products(spectrum: tuple[tuple[float, ...], ...]) -> None:
    noise, pilot = NoiseModel(1.0, spectrum=spectrum), torch.rand(1, 3, 32, 32)
    drawn = [added_noise(pilot, noise, seed).double() for seed in range(800)]
    products = torch.stack([x * y for x, y in zip(drawn[::2], drawn[1::2])])
    independent = products.square().mean() / pilot.numel()
    times = products.mean(dim=(1, 2, 3, 4)).square().mean() / independent
    # The variance of 400 numbers is known to 7%.
    assert float(times) == pytest.approx(dependence(drawn[0], noise), rel=0.2)


def test_dependence_of_a_grey_picture_in_colour() -> None:
    grey = torch.rand(1, 1, 24, 24).expand(1, 3, -1, -1)
    of_one = dependence(grey[:, :1], NoiseModel(0.1, spectrum=COARSE))
    for spectrum in (COARSE, (*COARSE, (0.0,) * 7, (0.0,) * 7)):
        assert dependence(grey, NoiseModel(0.1, spectrum=spectrum)) == pytest.approx(3 * of_one)
    assert dependence(grey, NoiseModel(0.1, spectrum=((0.0,) * 7,))) == 3
