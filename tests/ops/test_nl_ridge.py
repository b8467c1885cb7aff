"""Test non-local ridge regression: the kernel against its definition, and the public function."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dipfast import NoiseModel, _native, ops
from dipfast.errors import InputError, InputTypeError
from dipfast.ops import _reference as reference
from dipfast.ops._compiled.nl_ridge import nl_ridge_pass
from dipfast.settings.noise import BAND_EDGES

SPEEDS = ("fast", "balanced", "best")
# Noise of cameras after demosaicking, about of variance 1.
BANDS = (2.2, 2.0, 1.7, 1.4, 1.0, 0.7, 0.45)


def covariance_table(channels: int, radius: int) -> np.ndarray:
    """Return the covariance of slightly blurred noise, in 2^-17: exact beside the distances."""
    distance = np.arange(-radius, radius + 1)
    table = 0.02 * np.exp(-(distance[:, None] ** 2) - distance**2)
    scaled = np.arange(1.0, channels + 1)[:, None, None] * table
    return (np.round(scaled * 2**17) / 2**17).astype(np.float32)


@st.composite
def passes(draw: st.DrawFn) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Draw picture, guide and covariance, and the options of a pass."""
    shape = tuple(draw(st.integers(1, most)) for most in (4, 3, 9, 12))
    radius = draw(st.integers(0, 2))
    patch = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    # In 256ths squared distances are exact in float32, and some are equal.
    guide = rng.integers(0, 257, shape[1:]) / 256
    pictures = [rng.random(shape), guide, covariance_table(shape[0], radius)]
    options: dict[str, Any] = {
        "patch": patch,
        # Between patches that are further apart there would be pixels in none.
        "step": draw(st.integers(1, patch)),
        "group": draw(st.integers(1, 30)),
        "reach": draw(st.integers(0, 6)),
        "slices_reach": draw(st.integers(0, 2)),
        "share": draw(st.sampled_from([0.05, 1.0])),
        "centred": draw(st.booleans()),
    }
    if draw(st.booleans()):
        options["gain"] = rng.uniform(0.2, 3, shape).astype(np.float32)
    if draw(st.booleans()):
        options["guide_covariance"] = covariance_table(1, draw(st.integers(0, 2)))[0]
    if draw(st.booleans()):
        options["pilot"] = rng.random(shape).astype(np.float32)
        options["filters"] = draw(st.sampled_from(["patches", "values", "both"]))
    return [x.astype(np.float32) for x in pictures], options


def as_tensors(options: dict[str, Any]) -> dict[str, Any]:
    arrays = {key: x for key, x in options.items() if isinstance(x, np.ndarray)}
    return options | {key: torch.from_numpy(x) for key, x in arrays.items()}


def many_tiles(**options: Any) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Return a pass over a picture that is divided into several tiles."""
    rng = np.random.default_rng(0)
    shape = (3, 2, 50, 70)
    pictures = [rng.random(shape), rng.random(shape[1:]), covariance_table(3, 1)]
    sizes = {"patch": 4, "group": 16, "reach": 5, "slices_reach": 1, "step": 3, "share": 1.0}
    return [x.astype(np.float32) for x in pictures], sizes | options


class TestPass:
    @settings(max_examples=40)
    @given(passes())
    def test_is_the_definition(self, one: tuple[list[np.ndarray], dict[str, Any]]) -> None:
        pictures, options = one
        got = nl_ridge_pass(*pictures, **options)
        expected = reference.nl_ridge_pass(
            *map(torch.from_numpy, pictures), **as_tensors(options)
        ).numpy()
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("filters", ["patches", "values", "both"])
    @pytest.mark.parametrize("first", [True, False])
    def test_flat_pictures(self, first: bool, filters: str) -> None:
        # All distances are equal: the first patches of the window are taken.
        flat = np.full((2, 1, 12, 13), 0.7, np.float32)
        noise = covariance_table(2, 0)
        options = {"patch": 3, "group": 5, "reach": 4, "step": 2, "share": 1.0}
        options |= {"filters": filters} if first else {"pilot": flat, "filters": filters}
        got = nl_ridge_pass(flat, flat[0], noise, **options)
        expected = reference.nl_ridge_pass(
            *map(torch.from_numpy, (flat, flat[0], noise)), **as_tensors(options)
        )
        np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)

    def test_first_of_equal_patches(self) -> None:
        # A guide of two values has many; which of them are taken shows in the noisy picture.
        rng = np.random.default_rng(0)
        noisy = rng.random((1, 1, 14, 15)).astype(np.float32)
        guide = rng.integers(0, 2, noisy.shape[1:]).astype(np.float32)
        noise = covariance_table(1, 0)
        options: dict[str, Any] = {"patch": 2, "group": 6, "reach": 6, "step": 1, "share": 1.0}
        got = nl_ridge_pass(noisy, guide, noise, **options)
        expected = reference.nl_ridge_pass(*map(torch.from_numpy, (noisy, guide, noise)), **options)
        np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
    def test_patches_of_no_distance_are_like_no_others(self, bad: float) -> None:
        noisy = with_noise(photograph(size=40), 0.1)[None, None].astype(np.float32)
        covariance = np.full((1, 1, 1), 0.01, np.float32)
        options: dict[str, Any] = {"patch": 4, "group": 16, "reach": 4, "step": 3}
        expected = nl_ridge_pass(noisy, noisy[0], covariance, **options)
        spoilt = noisy.copy()
        spoilt[0, 0, 20, 20] = bad
        got = nl_ridge_pass(spoilt, spoilt[0], covariance, **options)
        away = np.ones(noisy.shape, bool)
        away[..., 9:32, 9:32] = False
        assert np.array_equal(got[away], expected[away])
        assert np.isfinite(got).mean() > 0.9

    @pytest.mark.parametrize("threads", [1, 2, 3])
    @pytest.mark.parametrize("first", [True, False])
    def test_same_bits_for_every_number_of_threads(self, threads: int, first: bool) -> None:
        pictures, options = many_tiles()
        if not first:
            options |= {"pilot": pictures[0][..., ::-1].copy(), "filters": "both"}
        expected = nl_ridge_pass(*pictures, **options)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            got = nl_ridge_pass(*pictures, **options)
        finally:
            torch.set_num_threads(before)
        assert np.array_equal(got, expected)

    @pytest.mark.parametrize("rows", [1, 3])
    @pytest.mark.parametrize(("channels", "slices"), [(1, 1), (2, 1), (3, 1), (5, 1), (2, 5)])
    def test_the_noise_of_the_guide_is_that_of_a_mean(
        self, channels: int, slices: int, rows: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if rows == 3 and channels != 3:
            pytest.skip("is for colours")
        told: list[tuple[np.ndarray, np.ndarray | None]] = []

        def recorded(noisy: Any, guide: Any, covariance: Any, **options: Any) -> Any:
            told.append((guide, options["guide_covariance"]))
            return nl_ridge_pass(noisy, guide, covariance, **options)

        monkeypatch.setattr("dipfast.ops.nl_ridge_sizes.nl_ridge_pass", recorded)
        shape = (64, 64, channels * slices)
        noise = with_correlated_noise(np.zeros(shape), 0.1).reshape(64, 64, channels, slices)
        model = NoiseModel(0.1, spectrum=(BANDS,) * rows)
        ops.nl_ridge(noise.transpose(2, 3, 0, 1), noise=model, spatial_dims=3, channel_axis=0)
        (guide, covariance), (_, of_second) = told
        assert covariance is not None
        assert of_second is None
        middle = len(covariance) // 2
        for y, x in ((0, 0), (0, 1), (1, 1)):
            products = guide * np.roll(guide, (y, x), (-2, -1))
            assert covariance[middle + y, middle + x] == pytest.approx(products.mean(), rel=0.25)

    def test_callback(self) -> None:
        pictures, options = many_tiles(step=1)
        shares: list[float] = []
        nl_ridge_pass(*pictures, callback=shares.append, **options)
        assert len(shares) > 1
        assert shares == sorted(shares)
        assert shares[0] > 0
        assert shares[-1] == 1

    def test_what_does_not_fit_is_refused(self) -> None:
        (noisy, guide, noise), options = many_tiles()
        short = noisy[:, :, 1:].copy()
        for message, call in {
            'filters must be patches, values or both, got "all"': {"filters": "all"},
            "patch must be positive": {"patch": 0},
            "group must be positive": {"group": 0},
            "step must be positive": {"step": 0},
            "pilot has 20580 elements, expected 21000": {"pilot": short},
            "gain has 20580 elements, expected 21000": {"gain": short},
        }.items():
            with pytest.raises(InputError, match=message):
                nl_ridge_pass(noisy, guide, noise, **(options | call))
        with pytest.raises(InputError, match="covariance must have a square for each channel"):
            nl_ridge_pass(noisy, guide, noise[:2].copy(), **options)
        with pytest.raises(InputError, match="guide_covariance has"):
            nl_ridge_pass(noisy, guide, noise, **options, guide_covariance=noise)
        with pytest.raises(InputError, match="guide has"):
            nl_ridge_pass(noisy, guide[:1].copy(), noise, **options)
        with pytest.raises(InputTypeError, match="noisy must be an array of float32"):
            nl_ridge_pass(noisy.astype(np.float64), guide, noise, **options)
        one = _native.NlRidgePass(noisy.shape, **options)
        with pytest.raises(InputError, match="sums has"):
            one.add(noisy, guide, noise, guide.copy(), guide.copy(), first=0, count=1)


def photograph(name: str = "camera", size: int = 64) -> np.ndarray:
    """Return a piece of a photograph of scikit-image, in [0, 1]."""
    corner = {"camera": (100, 150), "astronaut": (60, 170)}[name]
    rows, columns = (slice(at, at + size) for at in corner)
    return getattr(skimage.data, name)()[rows, columns] / 255


def with_noise(clean: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    return clean + np.random.default_rng(seed).normal(0, sigma, clean.shape)


def with_correlated_noise(clean: np.ndarray, sigma: float) -> np.ndarray:
    """Return a square picture with noise that is spread over the bands."""
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(len(clean)),) * 2))
    levels = np.take(BANDS, np.digitize(frequency, BAND_EDGES[1:-1]))
    white = np.random.default_rng(0).normal(0, sigma, (*clean.shape[2:], *clean.shape[:2]))
    noise = np.fft.ifft2(np.fft.fft2(white) * levels).real
    return clean + (np.moveaxis(noise, 0, -1) if clean.ndim == 3 else noise)


def gain_in_decibels(noisy: np.ndarray, denoised: Any, clean: np.ndarray) -> float:
    before, after = (np.mean((np.asarray(x) - clean) ** 2) for x in (noisy, denoised))
    return float(10 * np.log10(before / after))


class TestQuality:
    @pytest.mark.parametrize("sigma", [10, 25, 50])
    def test_noise_is_less_at_every_speed(self, sigma: int) -> None:
        for name, least in (
            ("camera", {10: 3, 25: 6, 50: 8}),
            ("astronaut", {10: 3, 25: 6, 50: 8}),
        ):
            clean = photograph(name)
            noisy = with_noise(clean, sigma / 255)
            for speed in SPEEDS:
                denoised = ops.nl_ridge(noisy, sigma / 255, speed=speed)
                assert gain_in_decibels(noisy, denoised, clean) > least[sigma], (name, speed)

    def test_slower_is_better_on_average(self) -> None:
        gains = []
        for speed in SPEEDS:
            of_speed = []
            for name in ("camera", "astronaut"):
                clean = photograph(name, 96)
                noisy = with_noise(clean, 0.1)
                denoised = ops.nl_ridge(noisy, 0.1, speed=speed)
                of_speed.append(gain_in_decibels(noisy, denoised, clean))
            gains.append(np.mean(of_speed))
        assert gains == sorted(gains), gains

    def test_every_round_helps(self) -> None:
        clean = photograph()
        noisy = with_noise(clean, 0.15)
        one, two, all_of_them, more = (
            gain_in_decibels(noisy, ops.nl_ridge(noisy, 0.15, rounds=rounds), clean)
            for rounds in (1, 2, None, 99)
        )
        assert 0 < one < two < all_of_them
        assert more == all_of_them

    def test_weak_noise_does_no_harm(self) -> None:
        clean = photograph("astronaut")
        for sigma in (0.05, 0.3, 1.0):
            noisy = with_noise(clean, sigma / 255)
            denoised = ops.nl_ridge(noisy, sigma / 255)
            assert gain_in_decibels(noisy, denoised, clean) > -0.05

    def test_volumes_see_their_neighbours(self) -> None:
        clean = np.stack([photograph(size=48)] * 4)
        noisy = with_noise(clean, 0.1)
        volume = ops.nl_ridge(noisy, 0.1, spatial_dims=3, speed="fast")
        slices = ops.nl_ridge(noisy, 0.1, speed="fast")
        better = gain_in_decibels(noisy, volume, clean) - gain_in_decibels(noisy, slices, clean)
        assert better > 1

    def test_patches_of_three_slices_follow_what_moves(self) -> None:
        clean = np.stack([np.roll(photograph(), k, axis=1) for k in range(5)])[..., 8:]
        noisy = with_noise(clean, 0.1)
        gains = [
            gain_in_decibels(
                noisy,
                ops.nl_ridge(noisy, 0.1, spatial_dims=3, speed="fast", neighbours=neighbours),
                clean,
            )
            for neighbours in (0, 1, 4)
        ]
        assert gains[0] + 0.5 < gains[1] < gains[2]

    @pytest.mark.parametrize("count", [2, 3])
    def test_volumes_of_correlated_noise_and_of_colours(self, count: int) -> None:
        clean = np.stack([photograph(size=48)] * count)
        coarse = np.stack([with_correlated_noise(plane, 0.1) for plane in clean])
        coarse[1] += (coarse[0] - clean[0])[::-1, ::-1] - (coarse[1] - clean[1])
        noise = NoiseModel(0.1, spectrum=(BANDS,))
        volume, slices = (
            ops.nl_ridge(coarse, noise=noise, spatial_dims=3, speed="fast", neighbours=neighbours)
            for neighbours in (4, 0)
        )
        assert gain_in_decibels(coarse, volume, clean) > gain_in_decibels(coarse, slices, clean)
        colours = np.stack([clean, 1 - clean, clean / 2], axis=-1)
        noisy = with_noise(colours, 0.1)
        told: dict[str, Any] = {"channel_axis": -1, "spatial_dims": 3, "speed": "fast"}
        volume = ops.nl_ridge(noisy, 0.1, **told)
        slices = ops.nl_ridge(noisy, 0.1, neighbours=0, **told)
        assert gain_in_decibels(noisy, volume, colours) > gain_in_decibels(noisy, slices, colours)
        coarse = colours + (coarse - clean)[..., None]
        of_bands = NoiseModel(0.1, spectrum=(BANDS,) * 3)
        volume = ops.nl_ridge(coarse, noise=of_bands, **told)
        assert gain_in_decibels(coarse, volume, colours) > 1

    @pytest.mark.parametrize("speed", ["fast", "balanced"])
    def test_few_photons_are_kept_and_their_noise_is_not(self, speed: Any) -> None:
        clean = np.broadcast_to(np.linspace(0.1, 0.5, 96), (96, 96))
        counts = np.random.default_rng(0).poisson(clean).astype(np.float32)
        found = ops.nl_ridge(counts, noise=NoiseModel(0.0, 1.0), speed=speed)
        assert found.mean() == pytest.approx(counts.mean(), rel=0.03)
        assert np.sqrt(np.mean(np.square(found - clean))) < 0.035
        assert found.max() < 1

    def test_photon_noise(self) -> None:
        clean = photograph()
        photons = np.random.default_rng(0).poisson(60 * clean).astype(float)
        model = NoiseModel(0.0, 1 / 60)
        noisy = photons / 60
        denoised = ops.nl_ridge(noisy, noise=model)
        better = gain_in_decibels(noisy, denoised, clean)
        assert better > gain_in_decibels(noisy, ops.nl_ridge(noisy), clean) + 0.3
        # The same numbers, whatever their unit.
        counts = ops.nl_ridge(photons, noise=model, data_range=60.0)
        np.testing.assert_allclose(counts / 60, denoised, atol=1e-5)
        # 1 photon is 1 unit: values far above the range keep their noise.
        same = ops.nl_ridge(photons, noise=NoiseModel(0.0, 1.0))
        assert gain_in_decibels(noisy, same / 60, clean) == pytest.approx(better, abs=0.5)

    def test_clipped_noise_has_no_bias(self) -> None:
        clean = np.zeros((48, 48))
        clean[:, 24:] = 1.0
        noisy = with_noise(clean, 0.2).clip(0, 1)
        denoised = ops.nl_ridge(noisy, noise=NoiseModel(0.2, low=0.0, high=1.0))
        assert denoised.min() >= 0
        assert denoised.max() <= 1
        assert noisy[:, :20].mean() > 0.07
        assert denoised[:, :20].mean() < 0.01
        assert denoised[:, 28:].mean() > 0.99

    def test_clipped_at_one_end_of_a_long_range(self) -> None:
        clean = 5 * photograph()
        noisy = with_noise(clean, 0.2).clip(0)
        denoised = ops.nl_ridge(noisy, noise=NoiseModel(0.2, low=0.0))
        assert gain_in_decibels(noisy, denoised, clean) > 2

    @pytest.mark.parametrize("rows", [1, 3])
    @pytest.mark.parametrize("name", ["camera", "astronaut"])
    def test_correlated_noise(self, name: str, rows: int) -> None:
        if rows == 3 and name == "camera":
            pytest.skip("has one channel")
        clean = photograph(name)
        noisy = with_correlated_noise(clean, 0.1)
        model = NoiseModel(0.1, spectrum=(BANDS,) * rows)
        for speed in SPEEDS:
            known = gain_in_decibels(noisy, ops.nl_ridge(noisy, noise=model, speed=speed), clean)
            white = gain_in_decibels(noisy, ops.nl_ridge(noisy, 0.1, speed=speed), clean)
            assert known > white + 0.4

    @pytest.mark.parametrize("sigma", [1e-6, 1e-3, 0.1])
    @pytest.mark.parametrize(
        "spectrum",
        [
            ((3, 3, 2.5, 1.5, 0.5, 0, 0),),  # JPEG takes the finest noise away
            ((9, 0, 0, 0, 0, 0, 0),),
            ((0, 0, 0, 0, 1, 1.5, 2),),
            ((3, 3, 2.5, 1.5, 0.5, 0, 0),) * 3,
            (BANDS, (0,) * 7, (0,) * 7),  # a grey picture in three channels
        ],
    )
    def test_bands_without_noise(self, spectrum: Any, sigma: float) -> None:
        columns = np.mgrid[:40, :50][1]
        clean = np.stack([0.9 + 0.05 * np.sin(columns / 3)] * 3, -1)
        grey = np.random.default_rng(0).normal(0, sigma, columns.shape)[..., None]
        model = NoiseModel(sigma, spectrum=spectrum)
        if sigma == 0.1 and not any(spectrum[0][1:]):
            pytest.skip("blotches as strong as that are all that the picture shows")
        for noisy in (clean, clean + grey):
            for speed in ("fast", "best"):
                denoised = ops.nl_ridge(noisy, noise=model, speed=speed)
                assert np.sqrt(np.mean((denoised - clean) ** 2)) < 1.2 * sigma + 3e-4

    def test_weak_correlated_noise_is_taken_out_of_bright_places_too(self) -> None:
        clean = np.full((64, 64), 0.9)
        noisy = with_correlated_noise(clean, 1e-3)
        model = NoiseModel(1e-3, spectrum=(BANDS,))
        bright = gain_in_decibels(noisy, ops.nl_ridge(noisy, noise=model), clean)
        dark = ops.nl_ridge(noisy - 0.85, noise=model) + 0.85
        assert bright > gain_in_decibels(noisy, dark, clean) - 0.3

    def test_everything_at_once(self) -> None:
        clean = photograph("astronaut")
        noisy = with_correlated_noise(clean, 0.1).clip(0, 1)
        model = NoiseModel(0.09, 0.004, 0.0, 1.0, (BANDS,) * 3)
        assert gain_in_decibels(noisy, ops.nl_ridge(noisy, noise=model), clean) > 3

    def test_a_map_of_sigma(self) -> None:
        clean = photograph("astronaut")
        sigma = np.linspace(0.02, 0.3, 64)
        noisy = clean + np.random.default_rng(0).normal(size=clean.shape) * sigma[:, None]
        known = ops.nl_ridge(noisy, np.broadcast_to(sigma, (64, 64)))
        typical = ops.nl_ridge(noisy, float(np.sqrt(np.mean(sigma**2))))
        better = gain_in_decibels(noisy, known, clean) - gain_in_decibels(noisy, typical, clean)
        assert better > 0.5

    def test_a_few_values_that_are_hardly_known_change_no_others(self) -> None:
        noisy = with_noise(photograph(size=128), 0.1)
        sigma = np.full(noisy.shape, 0.1)
        expected = ops.nl_ridge(noisy, sigma, speed="fast")
        sigma[2:4, 3] = 1e3
        got = ops.nl_ridge(noisy, sigma, speed="fast")
        np.testing.assert_allclose(got[100:, 100:], expected[100:, 100:], rtol=0, atol=1e-3)

    @pytest.mark.parametrize("background", [0.0, 0.4])
    def test_noise_in_a_part_alone(self, background: float) -> None:
        clean = photograph()
        clean[:, :32] = background
        sigma = np.zeros((64, 64))
        sigma[:, 32:] = 0.1
        noisy = (clean + np.random.default_rng(0).normal(size=clean.shape) * sigma).clip(0)
        denoised = ops.nl_ridge(noisy, sigma)
        assert np.isfinite(denoised).all()
        np.testing.assert_allclose(denoised[:, :8], background, atol=1e-3)
        assert gain_in_decibels(noisy, denoised, clean) > 3

    @pytest.mark.parametrize("peak", [10.0, 1e3, 1e5, 1e7, -1e7])
    def test_a_hot_pixel_spoils_no_others(self, peak: float) -> None:
        clean = photograph()
        noisy = with_noise(clean, 0.1)
        noisy[60, 60] = peak
        denoised = ops.nl_ridge(noisy, 0.1)
        away = slice(0, 32)
        assert gain_in_decibels(noisy[away], denoised[away], clean[away]) > 4

    @pytest.mark.parametrize("peak", [1e9, -1e20, 3e38, 1e200])
    @pytest.mark.parametrize("sigma", [0.1, "auto"])
    def test_a_value_for_missing_pixels_spoils_no_others(self, peak: float, sigma: Any) -> None:
        clean = photograph()
        noisy = with_noise(clean, 0.1)
        filled = noisy.astype(np.float32 if abs(peak) < 1e39 else np.float64)
        filled[20:22, 30], filled[60, 60] = peak, -peak
        denoised = ops.nl_ridge(filled, sigma, speed="fast")
        missing = abs(filled) > 1e8
        assert np.array_equal(denoised[missing], filled[missing])
        expected = ops.nl_ridge(noisy, sigma, speed="fast")
        np.testing.assert_allclose(denoised[~missing], expected[~missing], rtol=0, atol=0.15)
        assert gain_in_decibels(noisy[~missing], denoised[~missing], clean[~missing]) > 4

    @pytest.mark.parametrize("filled", [-3.4e38, 1e9, 1e300])
    @pytest.mark.parametrize("rows", [1, 8, 28])
    def test_many_missing_pixels_of_one_value_spoil_no_others(
        self, filled: float, rows: int
    ) -> None:
        clean = photograph()
        noisy = with_noise(clean, 0.1).astype(np.float32 if abs(filled) < 1e39 else np.float64)
        noisy[:rows] = filled
        denoised = ops.nl_ridge(noisy, 0.1, speed="fast")
        assert np.array_equal(denoised[:rows], noisy[:rows])
        assert gain_in_decibels(noisy[rows:], denoised[rows:], clean[rows:]) > 4

    @pytest.mark.parametrize("background", [0.0, 1e-17])
    def test_a_picture_on_hardly_any_background_is_not_missing(self, background: float) -> None:
        clean = background * np.random.default_rng(0).normal(size=(64, 64))
        sigma = np.zeros((64, 64))
        clean[:24], sigma[:24] = photograph()[:24], 0.1
        noisy = clean + np.random.default_rng(1).normal(size=clean.shape) * sigma
        denoised = ops.nl_ridge(noisy, sigma, speed="fast")
        assert gain_in_decibels(noisy, denoised, clean) > 3

    @pytest.mark.parametrize("sigma", [0.0, 1e-6, 1e-3])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_smooth_drawings_with_hardly_any_noise(self, sigma: float, channels: int) -> None:
        # Patches of a group are nearly multiples of each other, which leaves no digits.
        rows, columns = np.mgrid[:40, :50]
        drawings = [
            columns / 49,
            (rows + columns) / 90,
            0.9 + 0.05 * np.sin(columns / 3),
            columns // 4 % 2,
            (columns - 24) ** 2 + (rows - 20) ** 2 < 200,
        ]
        for drawing in drawings:
            clean = np.repeat(drawing[..., None].astype(float), channels, -1)
            for image, unit in ((with_noise(clean, sigma), 1), ((255 * clean).round(), 255)):
                for speed in SPEEDS:
                    denoised = ops.nl_ridge(
                        image, unit * (sigma + 1e-9), speed=speed, channel_axis=-1
                    )
                    np.testing.assert_allclose(denoised / unit, clean, atol=5 * sigma + 0.003)

    def test_saturated_pictures(self) -> None:
        clean = np.ones((48, 48))
        clean[20:30, 20:30] = 0.3
        noisy = with_noise(clean, 0.1).clip(0, 1)
        white = ops.nl_ridge(noisy, 0.1)
        clipped = ops.nl_ridge(noisy, noise=NoiseModel(0.1, low=0.0, high=1.0))
        assert gain_in_decibels(noisy, white, clean) > 4
        assert gain_in_decibels(noisy, clipped, clean) > 10


class TestImages:
    noisy = with_noise(photograph("astronaut", 32), 0.1)

    @pytest.mark.parametrize(
        ("dtype", "result"),
        [
            ("uint8", "float32"),
            ("int8", "float32"),
            ("uint16", "float32"),
            (">u2", "float32"),
            ("uint32", "float64"),
            ("int32", "float64"),
            ("int64", "float64"),
            ("float16", "float32"),
            ("float32", "float32"),
            (">f4", "float32"),
            ("float64", "float64"),
            ("longdouble", "float64"),
        ],
    )
    def test_every_dtype(self, dtype: str, result: str) -> None:
        image = (100 * self.noisy.clip(0, 1)).astype(dtype)
        before = image.copy()
        got = ops.nl_ridge(image, 10.0)
        expected = ops.nl_ridge(image.astype(np.float64), 10.0)
        assert type(got) is np.ndarray
        assert got.dtype == result
        assert got.shape == image.shape
        np.testing.assert_allclose(got, expected, atol=1e-4)
        np.testing.assert_array_equal(image, before)

    def test_booleans(self) -> None:
        flags = self.noisy > 0.5
        expected = ops.nl_ridge(flags.astype(np.float32), 0.2)
        np.testing.assert_array_equal(ops.nl_ridge(flags, 0.2), expected)

    @pytest.mark.parametrize(
        "dtype", ["uint8", "uint16", "int32", "float16", "bfloat16", "float32", "float64"]
    )
    def test_tensors(self, dtype: str) -> None:
        image = torch.from_numpy(100 * self.noisy.clip(0, 1)).to(getattr(torch, dtype))
        got = ops.nl_ridge(image, 10.0)
        expected = ops.nl_ridge(image.double().numpy(), 10.0)
        wide = dtype in ("int32", "float64")
        assert got.dtype == (torch.float64 if wide else torch.float32)
        assert got.is_contiguous()
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-4)

    def test_tensors_of_every_kind(self) -> None:
        image = torch.from_numpy(self.noisy).float()
        expected = ops.nl_ridge(image, 0.1)
        assert not ops.nl_ridge(image.clone().requires_grad_(), 0.1).requires_grad
        torch.testing.assert_close(ops.nl_ridge(image, torch.tensor(0.1)), expected)
        negative = torch.complex(image, -image).conj().imag  # a view with the negative bit
        assert negative.is_neg()
        assert torch.equal(ops.nl_ridge(negative, 0.1), expected)

    def test_arrays_in_every_memory(self) -> None:
        expected = ops.nl_ridge(self.noisy, 0.1)
        wide = np.zeros((32, 64, 3))
        wide[:, ::2] = self.noisy
        readonly = self.noisy.copy()
        readonly.flags.writeable = False
        for image in (
            np.asfortranarray(self.noisy),
            self.noisy[::-1].copy()[::-1],
            wide[:, ::2],
            readonly,
            np.ma.masked_equal(self.noisy, 99),
        ):
            np.testing.assert_array_equal(ops.nl_ridge(image, 0.1), expected)
        grey = self.noisy[..., 0]
        np.testing.assert_array_equal(
            ops.nl_ridge(grey.copy().view(np.matrix), 0.1), ops.nl_ridge(grey, 0.1)
        )

    @pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
    def test_channels_at_every_axis(self, axis: int) -> None:
        expected = ops.nl_ridge(self.noisy, 0.1)  # they are recognised
        moved = np.moveaxis(self.noisy, -1, axis)
        for image in (moved, np.ascontiguousarray(moved)):
            got = ops.nl_ridge(image, 0.1, channel_axis=axis)
            np.testing.assert_array_equal(np.moveaxis(got, axis, -1), expected)
            tensor = ops.nl_ridge(torch.from_numpy(image.copy()), 0.1, channel_axis=axis)
            np.testing.assert_array_equal(tensor.numpy(), got)

    def test_channels_are_denoised_together(self) -> None:
        stack = np.moveaxis(self.noisy, -1, 0)
        apart = ops.nl_ridge(stack, 0.1)  # three pictures of one channel
        together = ops.nl_ridge(stack, 0.1, channel_axis=0)
        clean = np.moveaxis(photograph("astronaut", 32), -1, 0)
        assert gain_in_decibels(stack, together, clean) > gain_in_decibels(stack, apart, clean)

    @pytest.mark.parametrize("count", [1, 2, 4, 5])
    def test_any_number_of_channels(self, count: int) -> None:
        image = np.concatenate([self.noisy] * 2, -1)[..., :count]
        got = ops.nl_ridge(image, 0.1, channel_axis=-1)
        assert got.shape == image.shape
        assert np.abs(got - image).std() == pytest.approx(0.06, abs=0.03)

    @pytest.mark.parametrize("sigma", [0.1, "auto"])
    def test_images_of_a_batch_are_denoised_as_if_alone(self, sigma: Any) -> None:
        images = np.stack([self.noisy, self.noisy[::-1], 2 * self.noisy, 3 - self.noisy])
        together = ops.nl_ridge(images.reshape(2, 2, *images.shape[1:]), sigma)
        alone = np.stack([ops.nl_ridge(image, sigma) for image in images])
        np.testing.assert_array_equal(together.reshape(images.shape), alone)

    @pytest.mark.parametrize("other", [1e3, -1e7, 1e7])
    def test_images_of_other_units_in_a_batch(self, other: float) -> None:
        images = np.stack([self.noisy, other * self.noisy])
        together = ops.nl_ridge(images, 0.1, channel_axis=-1)
        np.testing.assert_array_equal(together[0], ops.nl_ridge(self.noisy, 0.1))

    def test_volumes(self) -> None:
        volume = with_noise(np.zeros((3, 20, 22)), 0.1)
        got = ops.nl_ridge(volume, 0.1, spatial_dims=3)
        assert got.shape == volume.shape
        several = ops.nl_ridge(np.stack([volume, volume]), 0.1, spatial_dims=3)
        np.testing.assert_array_equal(several, np.stack([got, got]))
        flat = ops.nl_ridge(volume[:1], 0.1, spatial_dims=3)
        np.testing.assert_array_equal(flat, ops.nl_ridge(volume[:1], 0.1))
        colours = np.stack([volume] * 3, -1)
        last = ops.nl_ridge(colours, 0.1, spatial_dims=3, channel_axis=-1)
        front = ops.nl_ridge(np.moveaxis(colours, -1, 0), 0.1, spatial_dims=3, channel_axis=0)
        np.testing.assert_array_equal(np.moveaxis(last, -1, 0), front)

    @given(
        shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
        speed=st.sampled_from(SPEEDS),
        scale=st.sampled_from([1e-3, 1.0, 255.0]),
        level=st.sampled_from([0.001, 0.1, 1.0, 30.0]),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=40)
    def test_small_pictures(
        self, shape: tuple[int, ...], speed: Any, scale: float, level: float, seed: int
    ) -> None:
        image = scale * np.random.default_rng(seed).random(shape)
        got = ops.nl_ridge(image, level * scale, speed=speed, channel_axis=-1)
        assert got.shape == shape
        assert np.isfinite(got).all()
        assert np.abs(got).max() <= 3 * scale

    def test_constant_pictures_are_returned(self) -> None:
        for value in (0.0, 0.1, -3.0, 1e6 + 0.1, 65535.0):
            image = np.full((9, 10), value)
            for sigma in (0, 0.1, "auto"):
                np.testing.assert_array_equal(ops.nl_ridge(image, sigma), image)
            tensor = torch.from_numpy(image)
            assert torch.equal(ops.nl_ridge(tensor, 0.1), tensor)
        white = np.full((16, 16, 3), 255, np.uint8)
        for options in ({}, {"noise": NoiseModel(0.1, high=1.0)}):
            np.testing.assert_array_equal(ops.nl_ridge(white, **options), white)

    def test_no_noise_changes_nothing(self) -> None:
        for sigma in (0, 0.0, np.zeros(self.noisy.shape), torch.zeros(1)):
            got = ops.nl_ridge(self.noisy, sigma)
            np.testing.assert_allclose(got, self.noisy, rtol=0, atol=1e-6)
        got = ops.nl_ridge(self.noisy, noise=NoiseModel(0.0))
        np.testing.assert_allclose(got, self.noisy, rtol=0, atol=1e-6)

    def test_same_bits_for_every_number_of_threads(self) -> None:
        image = with_noise(photograph(size=80), 0.1)
        before = torch.get_num_threads()
        results = []
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                results.append(ops.nl_ridge(image, 0.1, speed="fast"))
        finally:
            torch.set_num_threads(before)
        for result in results[1:]:
            assert np.array_equal(result, results[0])

    def test_arrays_need_no_torch(self) -> None:
        code = (
            "import sys, numpy as np\n"
            "from dipfast import ops\n"
            "ops.nl_ridge(np.eye(8), 0.1)\n"
            "assert 'torch' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


class TestUnits:
    """Scale and offset of an image, and of sigma, change the result in the same way."""

    noisy = with_noise(photograph(size=32), 0.1)

    @pytest.mark.parametrize(
        ("scale", "offset"),
        [(2.0, 0.0), (255.0, 0.0), (0.3, -7.0), (5e4, 1e4), (1e-3, 0.0), (1.0, 1e4)],
    )
    def test_linear(self, scale: float, offset: float) -> None:
        expected = ops.nl_ridge(self.noisy, 0.1)
        image = scale * self.noisy + offset
        got = ops.nl_ridge(image, 0.1 * abs(scale))
        np.testing.assert_allclose((got - offset) / scale, expected, rtol=0, atol=3e-5)
        # float32 has fewer digits beside an offset.
        got = ops.nl_ridge(image.astype(np.float32), 0.1 * abs(scale))
        digits = 1e-6 * abs(offset / scale) + 3e-5
        np.testing.assert_allclose((got - offset) / scale, expected, rtol=0, atol=digits)

    @pytest.mark.parametrize("exponent", [-200, -40, 30, 200])
    def test_far_away(self, exponent: int) -> None:
        expected = ops.nl_ridge(self.noisy, 0.1)
        scale = 10.0**exponent
        got = ops.nl_ridge(scale * self.noisy, 0.1 * scale)
        np.testing.assert_allclose(got / scale, expected, rtol=0, atol=3e-5)

    def test_the_largest_numbers(self) -> None:
        for dtype in (np.float32, np.float64):
            most = np.finfo(dtype).max / 4
            image = np.where(self.noisy > 0.5, most, -most).astype(dtype)
            assert np.isfinite(ops.nl_ridge(image, float(most) / 10)).all()

    def test_16_bits(self) -> None:
        image = (self.noisy * 2000 + 1e4).round().astype(np.uint16)
        got = ops.nl_ridge(image, 200.0)
        expected = ops.nl_ridge(image / 65535, 200 / 65535) * 65535
        np.testing.assert_allclose(got, expected, atol=0.01)

    @pytest.mark.parametrize("sigma", ["auto", 1e-30, 1e-6, 1e6, 1e30])
    def test_any_sigma(self, sigma: Any) -> None:
        got = ops.nl_ridge(self.noisy, sigma)
        assert np.isfinite(got).all()
        if sigma in (1e-30, 1e-6):
            np.testing.assert_allclose(got, self.noisy, atol=1e-4)

    def test_sigma_is_estimated_for_each_image(self) -> None:
        sigma = ops.estimate_noise(self.noisy)
        np.testing.assert_allclose(
            ops.nl_ridge(self.noisy), ops.nl_ridge(self.noisy, sigma), atol=1e-4
        )

    def test_sigma_of_every_shape(self) -> None:
        images = with_noise(np.zeros((2, 20, 24, 3)), 0.1)
        expected = ops.nl_ridge(images, 0.1)
        channels = np.array([0.1, 0.1, 0.1])
        shapes = [(), (1,), (1, 1, 1), (3,), (20, 24, 1), (20, 24, 3), (2, 1, 1, 1), images.shape]
        for shape in shapes:
            same = np.full(shape, 0.1)
            np.testing.assert_allclose(ops.nl_ridge(images, same), expected, atol=1e-5)
            tensor = torch.from_numpy(same.copy())
            np.testing.assert_allclose(ops.nl_ridge(images, tensor), expected, atol=1e-5)
        other = ops.nl_ridge(images, channels * [1, 1, 0.1])
        assert np.abs(other - images)[..., 2].mean() < 0.5 * np.abs(other - images)[..., 0].mean()
        # One number for each image.
        apart = ops.nl_ridge(images, np.array([0.1, 0.2]).reshape(2, 1, 1, 1))
        np.testing.assert_allclose(apart[0], expected[0], atol=1e-5)
        np.testing.assert_allclose(apart[1], ops.nl_ridge(images[1], 0.2), atol=1e-5)

    def test_numbers_of_every_kind(self) -> None:
        expected = ops.nl_ridge(self.noisy, 0.5)
        for sigma in (np.float32(0.5), np.array(0.5), np.array([0.5]), torch.tensor(0.5)):
            np.testing.assert_array_equal(ops.nl_ridge(self.noisy, sigma), expected)

    def test_white_noise_is_sigma(self) -> None:
        got = ops.nl_ridge(self.noisy, noise=NoiseModel(0.1))
        gain = gain_in_decibels(self.noisy, got, photograph(size=32))
        expected = gain_in_decibels(self.noisy, ops.nl_ridge(self.noisy, 0.1), photograph(size=32))
        assert gain == pytest.approx(expected, abs=0.3)

    def test_range_of_integers(self) -> None:
        image = (255 * self.noisy.clip(0, 1)).round().astype(np.uint8)
        model = NoiseModel(0.1, low=0.0, high=1.0)
        got = ops.nl_ridge(image, noise=model)
        expected = 255 * ops.nl_ridge(image / 255, noise=model)
        np.testing.assert_allclose(got, expected, atol=1e-3)
        for data_range in (255, (0, 255), np.array([0.0, 255.0]), torch.tensor(255.0)):
            same = ops.nl_ridge(image, noise=model, data_range=data_range)
            np.testing.assert_array_equal(same, got)


class TestCallback:
    noisy = with_noise(photograph(size=48), 0.1)

    @pytest.mark.parametrize("rounds", [1, None])
    def test_shares_rise_to_one(self, rounds: int | None) -> None:
        shares: list[float] = []
        images = np.stack([self.noisy, self.noisy])
        ops.nl_ridge(images, 0.1, rounds=rounds, callback=shares.append)
        assert len(shares) >= (2 if rounds else 8)
        assert shares == sorted(shares)
        assert 0 <= shares[0] <= 0.5
        assert shares[-1] == 1
        assert all(isinstance(share, float) for share in shares)

    def test_one_is_reached_where_nothing_is_to_be_done(self) -> None:
        shares: list[float] = []
        flat = np.stack([self.noisy, 0 * self.noisy])
        for image, sigma in ((flat, 0.1), (self.noisy, 0.0)):
            ops.nl_ridge(image, sigma, callback=shares.append)
            assert shares[-1] == 1

    @pytest.mark.parametrize("error", [KeyboardInterrupt, StopIteration, ZeroDivisionError])
    def test_exceptions_pass_through(self, error: type[BaseException]) -> None:
        def interrupt(share: float) -> None:
            raise error

        with pytest.raises(error):
            ops.nl_ridge(self.noisy, 0.1, callback=interrupt)


class TestErrors:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("sigma", [0, 0.1, "auto"])
    def test_image_that_is_not_finite(self, bad: float, sigma: Any) -> None:
        image = np.zeros((5, 6))
        image[2, 3] = bad
        for x in (image, image.astype(np.float16), torch.from_numpy(image)):
            with pytest.raises(ValueError, match="image must be finite, got NaN or infinity"):
                ops.nl_ridge(x, sigma)

    @pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 5, 5), (5, 5, 0)])
    def test_empty(self, shape: tuple[int, ...]) -> None:
        for image in (np.zeros(shape), torch.zeros(shape)):
            with pytest.raises(ValueError, match="image must have at least one element"):
                ops.nl_ridge(image, 0.1)

    def test_too_small_to_tell_its_noise(self) -> None:
        with pytest.raises(ValueError, match="give sigma: image of 3 x 2 pixels is too small"):
            ops.nl_ridge(np.arange(6.0).reshape(3, 2))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"sigma": -0.1}, "sigma must be finite and not negative, got -0.1"),
            ({"sigma": np.nan}, "sigma must be finite and not negative, got nan"),
            ({"sigma": np.inf}, "sigma must be finite and not negative, got inf"),
            ({"sigma": "big"}, "sigma must be 'auto', a number or an array, got 'big'"),
            ({"sigma": np.full((8, 9), -1)}, "sigma must be finite and not negative everywhere"),
            ({"sigma": np.full((8, 9), np.nan)}, "sigma must be finite and not negative"),
            ({"sigma": np.ones((7, 9))}, r"sigma must broadcast to .*\(8, 9\), got \(7, 9\)"),
            ({"sigma": np.ones((2, 8, 9))}, "sigma must broadcast to the shape of the image"),
            ({"noise": NoiseModel(0.1), "sigma": 0.1}, "give sigma or noise, not both"),
            (
                {"noise": NoiseModel(0.1, spectrum=(BANDS,) * 3)},
                "noise has a spectrum of 3 channels, and image has 1",
            ),
            ({"noise": NoiseModel(0.1), "data_range": 0}, "data_range must be a positive number"),
            ({"noise": NoiseModel(0.1), "data_range": (1, 0)}, "data_range must be a positive num"),
            ({"noise": NoiseModel(0.1), "data_range": "a"}, "data_range must be a positive number"),
            ({"speed": "slow"}, "speed must be one of fast, balanced, best, got 'slow'"),
            ({"speed": 3}, "speed must be one of fast, balanced, best, got 3"),
            ({"rounds": 0}, "rounds must be positive or -1, got 0"),
            ({"rounds": -2}, "rounds must be positive or -1, got -2"),
            ({"spatial_dims": 4}, "spatial_dims must be 2"),
            ({"neighbours": -1}, "neighbours must not be negative, got -1"),
            ({"spatial_dims": 3}, "image must have slices"),
            ({"channel_axis": 0}, r"channel_axis=0 does not fit image of shape \(8, 9\)"),
        ],
    )
    def test_values(self, options: dict[str, Any], message: str) -> None:
        image = np.random.default_rng(0).random((8, 9))
        given_sigma = {} if "noise" in options else {"sigma": 0.1}
        for x in (image, torch.from_numpy(image)):
            with pytest.raises(ValueError, match=message):
                ops.nl_ridge(x, **(given_sigma | options))

    @pytest.mark.parametrize(
        ("image", "options", "message"),
        [
            (np.zeros((4, 5), complex), {}, "image must hold real numbers, got dtype complex128"),
            (torch.zeros(4, 5, dtype=torch.cfloat), {}, "image must hold real numbers"),
            (np.zeros((4, 5), object), {}, "image must hold real numbers, got dtype object"),
            ([[1.0]], {}, "image must be a NumPy array or a torch tensor, got list"),
            (np.zeros((4, 5)), {"sigma": None}, "sigma must be a number, got None"),
            (np.zeros((4, 5)), {"sigma": [0.1]}, "sigma must be a NumPy array or a torch tensor"),
            (np.zeros((4, 5)), {"sigma": np.ones((4, 5), complex)}, "sigma must hold real"),
            (np.zeros((4, 5)), {"noise": 0.1, "sigma": "auto"}, "noise must be a NoiseModel, got "),
            (np.zeros((4, 5)), {"rounds": 1.5}, "rounds must be an integer, got 1.5"),
            (np.zeros((4, 5)), {"neighbours": 1.5}, "neighbours must be an integer, got 1.5"),
            (np.zeros((4, 5)), {"rounds": True}, "rounds must be an integer, got True"),
            (np.zeros((4, 5)), {"callback": 3}, "callback must be callable, got int"),
            (np.zeros((2, 4, 5)), {"channel_axis": "a"}, "channel_axis must be an integer"),
        ],
    )
    def test_types(self, image: Any, options: dict[str, Any], message: str) -> None:
        with pytest.raises(TypeError, match=message):
            ops.nl_ridge(image, **{"sigma": 0.1, **options})

    @pytest.mark.parametrize("sigma", [0.1, "auto"])
    def test_masked_pixels(self, sigma: Any) -> None:
        image = np.ma.masked_equal(np.arange(64.0).reshape(8, 8), 3)
        with pytest.raises(ValueError, match="image has 1 masked pixel, which only inpaint fills"):
            ops.nl_ridge(image, sigma)

    def test_refused_before_work_starts(self) -> None:
        def fail(share: float) -> None:
            raise AssertionError

        wrong: list[Callable[[], object]] = [
            lambda: ops.nl_ridge(np.eye(9), -1, callback=fail),
            lambda: ops.nl_ridge(np.eye(9), 0.1, rounds=0, callback=fail),
        ]
        for call in wrong:
            with pytest.raises(ValueError, match="must be"):
                call()


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("size", [4, 8, 10])
def test_pictures_of_few_patches_keep_their_mean(size: int, speed: Any) -> None:
    pictures = 0.5 + with_noise(np.zeros((30, size, size)), 0.1)
    denoised = np.stack([ops.nl_ridge(picture, 0.1, speed=speed) for picture in pictures])
    assert denoised.mean() == pytest.approx(pictures.mean(), abs=0.01)
    assert np.sqrt(np.mean((denoised - 0.5) ** 2)) < 0.04
