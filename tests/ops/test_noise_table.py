"""Test tables of noise against the models that they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dipfast import NoiseModel
from dipfast.ops._noise_table import NoiseTable, band_covariance
from dipfast.settings.noise import BAND_EDGES

# Noise of cameras after demosaicking, about of variance 1.
LEVELS = (2.2, 2.0, 1.7, 1.4, 1.0, 0.7, 0.45)

MODELS: list[dict[str, Any]] = [
    {"sigma": 0.1},
    {"sigma": 0.02, "gain": 0.01},
    {"sigma": 0.1, "low": 0.0, "high": 1.0},
    {"sigma": 0.01, "low": 0.0, "high": 1.0},
    {"sigma": 0.001, "low": 0.0, "high": 1.0},
    {"sigma": 0.0001, "low": 0.0, "high": 1.0},
    {"sigma": 0.5, "low": 0.0, "high": 1.0},
    {"sigma": 0.02, "gain": 0.01, "low": 0.0},
    {"sigma": 0.01, "gain": 0.01, "low": 0.2, "offset": 0.25},
    {"sigma": 0.1, "high": 1.0},
    {"sigma": 0.02, "low": 0.2, "high": 0.8},
    {"sigma": 0.1, "low": -3.0, "high": 5.0},
]


def clean_values(model: NoiseModel) -> torch.Tensor:
    """Return values in the range of a model, closely near its ends."""
    low = -0.2 if model.low is None else model.low
    high = 1.2 if model.high is None else model.high
    near = 4 * model.sigma * torch.linspace(0, 1, 101, dtype=torch.float64)
    values = [torch.linspace(low, high, 3001, dtype=torch.float64), low + near, high - near]
    return torch.cat(values).clamp(low, high)


class TestNoiseTable:
    @pytest.mark.parametrize("parameters", MODELS)
    def test_variance(self, parameters: dict[str, Any]) -> None:
        model = NoiseModel(**parameters)
        clean = clean_values(model)
        got = NoiseTable(model).variance(clean.numpy().astype(np.float32))
        assert got.dtype == np.float32
        # float32 has too few digits to tell a clean value much closer.
        tolerance = 0.02 * model.typical_variance + 1e-7 * model.typical_variance**0.5
        np.testing.assert_allclose(got, model.variance(clean).numpy(), rtol=0, atol=tolerance)

    @pytest.mark.parametrize("parameters", MODELS)
    def test_clean_values_come_back(self, parameters: dict[str, Any]) -> None:
        model = NoiseModel(**parameters)
        clean = clean_values(model)
        expected = model.expectation(clean).numpy().astype(np.float32)
        got = NoiseTable(model).clean(expected)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, clean.numpy(), rtol=0, atol=0.06 * model.sigma + 1e-6)

    def test_what_no_clean_value_has_becomes_the_end(self) -> None:
        table = NoiseTable(NoiseModel(0.1, low=0.0, high=1.0))
        # 0.0399 is the expectation of black.
        expected = np.array([-1.0, 0.0, 0.0398, 0.5, 0.9602, 1.0, 3.0], np.float32)
        np.testing.assert_allclose(table.clean(expected), [0, 0, 0, 0.5, 1, 1, 1], atol=1e-4)

    @pytest.mark.parametrize(
        ("parameters", "values"),
        [
            ({"sigma": 0.1, "low": 0.0}, [2.5, 100.0, 5e4, 9e6]),
            ({"sigma": 0.1, "high": 1.0}, [-1.5, -100.0, -5e4, -9e6]),
            ({"sigma": 0.1, "low": -3.0, "high": 5.0}, [-2.0, 4.0]),
        ],
    )
    def test_far_from_an_end_nothing_changes(
        self, parameters: dict[str, Any], values: list[float]
    ) -> None:
        far = np.array(values, np.float32)
        np.testing.assert_allclose(NoiseTable(NoiseModel(**parameters)).clean(far), far, rtol=1e-6)

    def test_variance_grows_beyond_the_range(self) -> None:
        model = NoiseModel(0.1, 0.5)
        clean = torch.tensor([0.5, 3.0, 1e4])
        got = NoiseTable(model).variance(clean.numpy())
        np.testing.assert_allclose(got, model.variance(clean).numpy(), rtol=1e-3)

    def test_without_ends_expectations_are_clean_values(self) -> None:
        values = np.random.default_rng(0).normal(0, 9, 30).astype(np.float32)
        np.testing.assert_array_equal(NoiseTable(NoiseModel(0.1, 0.1)).clean(values), values)

    def test_no_noise(self) -> None:
        table = NoiseTable(NoiseModel(0.0, low=0.0, high=1.0))
        values = np.linspace(0, 1, 9).astype(np.float32)
        np.testing.assert_allclose(table.clean(values), values, atol=1e-4)
        assert (table.variance(values) > 0).all()

    @given(
        sigma=st.floats(0.003, 2),
        gain=st.sampled_from([0.0, 0.01, 0.3]),
        low=st.sampled_from([None, -0.5, 0.0, 0.1]),
        high=st.sampled_from([None, 0.7, 1.0, 1.5]),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=20)
    def test_order_is_kept(
        self, sigma: float, gain: float, low: float | None, high: float | None, seed: int
    ) -> None:
        table = NoiseTable(NoiseModel(sigma, gain, low, high))
        expected = np.sort(np.random.default_rng(seed).uniform(-1, 2, 99)).astype(np.float32)
        clean = table.clean(expected)
        assert np.isfinite(clean).all()
        assert (np.diff(clean) >= 0).all()
        assert (table.variance(clean) > 0).all()
        assert low is None or clean.min() >= np.float32(low)
        assert high is None or clean.max() <= np.float32(high)


class TestBandCovariance:
    def test_even_bands_are_white(self) -> None:
        (table,) = band_covariance(((2.0,) * 7,), 3)
        expected = np.zeros((7, 7))
        expected[3, 3] = 1
        np.testing.assert_allclose(table, expected, atol=1e-12)

    @pytest.mark.parametrize("radius", [0, 1, 7, 12])
    def test_is_a_covariance(self, radius: int) -> None:
        (table,) = band_covariance((LEVELS,), radius)
        assert table.shape == (2 * radius + 1,) * 2
        for same in (table.T, table[::-1], table[:, ::-1]):
            np.testing.assert_allclose(table, same, atol=1e-12)
        assert table.max() == table[radius, radius] == pytest.approx(1)
        # That of noise whose spectrum is not negative, but for the end of the taper.
        side = 2 * radius + 1
        spectrum = np.fft.fft2(np.pad(table, (0, 64 - side)))
        assert np.abs(spectrum).max() < 1.1 * LEVELS[0] ** 2
        shift = np.exp(2j * np.pi * radius * np.fft.fftfreq(64))
        assert (spectrum * np.outer(shift, shift)).real.min() > -0.02

    def test_is_of_variance_one_whatever_the_spectrum(self) -> None:
        # Levels of the channels, which fall steeply: what is coarse has another share of blocks.
        rows = ((6.0, 5.0, 3.0, 1.5, 0.5, 0.1, 0.0), (1.0,) * 7, (0.0,) * 7)
        tables = band_covariance(rows, 2)
        assert tables[:, 2, 2].mean() == pytest.approx(1)
        np.testing.assert_allclose(band_covariance(2 * np.array(rows), 2), tables)
        assert not band_covariance(((0.0,) * 7,), 2).any()

    def test_is_that_of_noise_in_the_bands(self) -> None:
        frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(256),) * 2))
        of_band = np.take(LEVELS, np.digitize(frequency, BAND_EDGES[1:-1]))
        white = np.random.default_rng(0).normal(size=(8, 256, 256))
        noise = np.fft.ifft2(np.fft.fft2(white) * of_band).real
        noise /= noise.std()
        # Within a few pixels the taper of a large table is nearly 1.
        (table,) = band_covariance((LEVELS,), 60)
        for row in range(-2, 3):
            for column in range(-2, 3):
                measured = np.mean(noise * np.roll(noise, (row, column), (-2, -1)))
                assert measured == pytest.approx(table[60 + row, 60 + column], abs=0.015)
