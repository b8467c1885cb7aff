"""Channels are denoised with each other's help where they have something in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from dipfast import NoiseModel, ops
from dipfast.ops._channel_groups import groups_of_channels
from dipfast.ops.nl_ridge_channels import denoise_channels
from dipfast.settings.noise import NoiseParameters

Pixels = Any


def photograph(name: str, size: int = 128) -> Pixels:
    """Return the middle of a photograph, channels first, in [0, 1]."""
    pixels = getattr(data, name)() / 255.0
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    row, column = ((n - size) // 2 for n in pixels.shape[:2])
    return pixels[row : row + size, column : column + size].transpose(2, 0, 1)


def with_noise(clean: Pixels, *sigmas: float) -> Pixels:
    """Return a picture with noise of these standard deviations, in levels of 8 bits."""
    noise = np.random.default_rng(0).normal(size=clean.shape)
    return (clean + noise * np.array(sigmas)[:, None, None] / 255).astype(np.float32)


def error(image: Pixels, clean: Pixels) -> Pixels:
    """Return the root mean square error of each channel, in levels of 8 bits."""
    return 255 * np.sqrt(np.square(image - clean).mean(axis=(1, 2)))


def groups(noisy: Pixels, sigma: float) -> list[list[int]]:
    return groups_of_channels(noisy[:, None].astype(np.float32), NoiseParameters(sigma / 255))


class TestGroups:
    @pytest.mark.parametrize("sigma", [2, 10, 25, 50])
    @pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket", "retina"])
    def test_colours_of_a_photograph_are_one(self, name: str, sigma: int) -> None:
        clean = photograph(name)
        assert groups(with_noise(clean, *[sigma] * 3), sigma) == [[0, 1, 2]]

    @pytest.mark.parametrize("sigma", [2, 10, 25, 50])
    def test_different_pictures_are_not(self, sigma: int) -> None:
        clean = np.concatenate([photograph("astronaut"), photograph("camera"), photograph("coins")])
        assert groups(with_noise(clean, *[sigma] * 5), sigma) == [[0, 1, 2], [3], [4]]
        assert groups(with_noise(clean[2:4], sigma, sigma), sigma) == [[0], [1]]

    def test_what_lies_in_the_same_places_helps(self) -> None:
        from scipy.ndimage import gaussian_filter

        blobs = gaussian_filter(data.binary_blobs(160, 0.1, rng=1).astype(float), 1)
        rims = (4 * blobs * (1 - blobs)).clip(0, 1)
        assert groups(with_noise(np.stack([blobs, rims]), 25, 25), 25) == [[0, 1]]
        negative = photograph("camera")
        assert groups(with_noise(np.concatenate([negative, 1 - negative]), 25, 25), 25) == [[0, 1]]

    def test_pictures_that_do_not_tell_are_one_group(self) -> None:
        noisy = with_noise(np.zeros((2, 63, 200)), 25, 25)
        assert groups(noisy, 25) == [[0, 1]]
        coarse = NoiseParameters(0.1, spectrum=((1.0,) * 7,))
        large = np.concatenate([photograph("camera"), photograph("coins")])[:, None]
        assert groups_of_channels(large.astype(np.float32), coarse) == [[0, 1]]
        assert groups(noisy[:1], 25) == [[0]]

    def test_a_channel_of_one_value_joins_none(self) -> None:
        clean = np.concatenate([photograph("camera"), photograph("coins")])
        noisy = with_noise(clean, 25, 25)
        one_value = np.full_like(noisy[:1], 0.7)
        assert groups(np.concatenate([noisy, one_value]), 25) == [[0], [1], [2]]
        assert groups(np.concatenate([one_value, one_value]), 25) == [[0], [1]]
        colours = with_noise(photograph("coffee"), 25, 25, 25)
        rgba = np.concatenate([colours, one_value])
        assert groups(rgba, 25) == groups(rgba[..., :40], 25) == [[0, 1, 2], [3]]
        coarse = NoiseParameters(0.1, spectrum=((1.0,) * 7,))
        assert groups_of_channels(rgba[:, None], coarse) == [[0, 1, 2], [3]]
        found = ops.nl_ridge(rgba, 25 / 255, speed="fast", channel_axis=0)
        np.testing.assert_allclose(found[3], one_value[0], rtol=1e-6)

    def test_a_channel_of_noise_alone_does_not_join_others(self) -> None:
        clean = np.concatenate([photograph("camera"), photograph("coins")])
        noisy = with_noise(np.concatenate([clean, np.full_like(clean[:1], 0.1)]), 25, 25, 25)
        assert groups(noisy, 26) == [[0], [1], [2]]

    @pytest.mark.parametrize("scale", [1e-20, 1e15])
    def test_of_values_of_any_size(self, scale: float) -> None:
        clean = np.concatenate([photograph("camera"), photograph("coins")])
        noisy = with_noise(clean, 10, 10) * scale
        found = groups_of_channels(noisy[:, None], NoiseParameters(10 / 255 * scale))
        assert found == [[0], [1]]


class TestDenoised:
    @pytest.mark.parametrize("speed", ["fast", "balanced"])
    def test_unrelated_channels_are_as_alone(self, speed: Any) -> None:
        clean = np.concatenate([photograph("camera"), photograph("coins")])
        noisy = with_noise(clean, 25, 25)
        noise = NoiseParameters(25 / 255)
        both = ops.nl_ridge(noisy, noise=noise, speed=speed, channel_axis=0)
        for channel in range(2):
            one = noisy[channel : channel + 1]
            alone = ops.nl_ridge(one, noise=noise, speed=speed, channel_axis=0)
            np.testing.assert_array_equal(both[channel], alone[0])

    @pytest.mark.parametrize("sigmas", [(10, 15, 10), (10, 40, 20), (5, 50, 10), (0.5, 50, 25)])
    def test_levels_of_channels_help_all_of_them(self, sigmas: tuple[float, ...]) -> None:
        clean = photograph("chelsea")
        noisy = with_noise(clean, *sigmas)
        sigma = np.array(sigmas)[:, None, None] / 255
        found = error(ops.nl_ridge(noisy, sigma, speed="fast", channel_axis=0), clean)
        alone = [
            error(ops.nl_ridge(noisy[k : k + 1], float(sigma[k, 0, 0]), speed="fast"), clean[k])[0]
            for k in range(3)
        ]
        mean = float(np.sqrt(np.mean(np.square(sigma))))
        of_one_level = error(ops.nl_ridge(noisy, mean, speed="fast", channel_axis=0), clean)
        assert (found < 1.03 * np.array(alone)).all()
        assert np.square(found).mean() < np.square(of_one_level).mean()

    def test_sigma_of_channels_is_a_model_with_their_levels(self) -> None:
        clean, sigmas = photograph("coffee"), (10, 30, 20)
        noisy = with_noise(clean, *sigmas)
        sigma = np.array(sigmas)[:, None, None] / 255
        model = NoiseModel(float(np.sqrt(np.mean(sigma**2))), channel_levels=sigmas)
        told = ops.nl_ridge(noisy, noise=model, speed="fast", channel_axis=0)
        as_map = ops.nl_ridge(
            noisy, np.broadcast_to(sigma, noisy.shape), speed="fast", channel_axis=0
        )
        by_channel = ops.nl_ridge(noisy, sigma, speed="fast", channel_axis=0)
        np.testing.assert_array_equal(by_channel, as_map)
        # They have other ranges, by which the passes are chosen.
        assert np.abs(error(told, clean) - error(as_map, clean)).max() < 0.3

    def test_a_map_that_differs_within_channels(self) -> None:
        clean = photograph("coffee")
        sigma = np.broadcast_to(np.array([10, 30, 20])[:, None, None] / 255, clean.shape).copy()
        sigma[:, :, 64:] *= 2
        noise = np.random.default_rng(0).normal(size=clean.shape)
        noisy = (clean + sigma * noise).astype(np.float32)
        found = error(ops.nl_ridge(noisy, sigma, speed="fast", channel_axis=0), clean)
        usual = np.broadcast_to(np.sqrt(np.mean(sigma**2, axis=(1, 2), keepdims=True)), sigma.shape)
        without = error(ops.nl_ridge(noisy, usual, speed="fast", channel_axis=0), clean)
        assert (found < without).all()

    @pytest.mark.parametrize("gain", [0.0, 0.01])
    def test_the_bias_of_clipped_noise_is_undone_in_each_channel(self, gain: float) -> None:
        clean = torch.zeros(2, 96, 96)
        clean[:, :, 48:] = 0.1
        model = NoiseModel(0.08, gain, low=0.0, high=1.0, channel_levels=(1, 3))
        noisy = model.sample(clean, torch.Generator().manual_seed(0)).numpy()
        found = ops.nl_ridge(noisy, noise=model, speed="fast", channel_axis=0)
        biased = np.abs(noisy[:, :, 56:].mean(axis=(1, 2)) - 0.1)
        left = np.abs(found[:, :, 56:].mean(axis=(1, 2)) - 0.1)
        assert left.max() < 0.012
        assert left[1] < 0.3 * biased[1]

    def test_a_channel_without_noise_stays(self) -> None:
        clean = photograph("coffee")
        noisy = with_noise(clean, 0, 25, 25)
        sigma = np.array([0, 25, 25])[:, None, None] / 255
        found = ops.nl_ridge(noisy, sigma, speed="fast", channel_axis=0)
        np.testing.assert_allclose(found[0], clean[0], atol=1e-6)
        assert (error(found, clean)[1:] < 10).all()
        for gain, low in ((0.0, None), (0.01, None), (0.0, 0.0)):
            noise = NoiseParameters(20 / 255, gain, low, channel_levels=(0, 1, 1))
            found = ops.nl_ridge(noisy, noise=noise, speed="fast", channel_axis=0)
            np.testing.assert_array_equal(found[0], noisy[0])

    def test_volumes(self) -> None:
        clean = np.stack([photograph("camera")[0], photograph("coins")[0]])[:, None].repeat(3, 1)
        noise = np.random.default_rng(0).normal(size=clean.shape)
        sigmas = np.array([10, 30])[:, None, None, None] / 255
        noisy = (clean + noise * sigmas).astype(np.float32)
        both = ops.nl_ridge(noisy, sigmas, speed="fast", channel_axis=0, spatial_dims=3)
        for channel, sigma in enumerate(sigmas.ravel()):
            rms = np.sqrt(np.square(both[channel] - clean[channel]).mean())
            assert rms < 0.4 * sigma

    def test_quiet_channels_of_a_volume_leave_no_noise_of_others(self) -> None:
        clean = photograph("astronaut", 72)[:, None].repeat(4, 1)
        sigmas = np.array([0.015, 0.2, 0.015])[:, None, None, None]
        noise = np.random.default_rng(0).normal(size=clean.shape)
        noisy = (clean + noise * sigmas).astype(np.float32)
        found = ops.nl_ridge(noisy, sigmas, speed="fast", channel_axis=0, spatial_dims=3)
        rms = np.sqrt(np.square(found - clean).mean(axis=(1, 2, 3)))
        assert rms[1] < 0.22 * 0.2  # 0.3 with patches of several slices
        assert (rms[[0, 2]] < 0.75 * 0.015).all()

    def test_model_of_other_channels_is_refused(self) -> None:
        model = NoiseModel(0.1, channel_levels=(1, 2))
        with pytest.raises(ValueError, match="channel_levels of 2 channels, and image has 3"):
            ops.nl_ridge(np.zeros((3, 20, 20)), noise=model, channel_axis=0)

    def test_progress_goes_from_group_to_group(self) -> None:
        clean = np.concatenate([photograph("camera"), photograph("coins")])
        shares: list[float] = []
        ops.nl_ridge(
            with_noise(clean, 25, 25),
            25 / 255,
            speed="fast",
            channel_axis=0,
            callback=shares.append,
        )
        assert shares == sorted(shares)
        assert shares[-1] == 1.0

    def test_a_grey_picture_in_colour_is_denoised_once(self) -> None:
        calls: list[tuple[int, ...]] = []

        def method(part: Pixels, noise: Any, gain: Any, report: Any) -> Pixels:
            calls.append(part.shape)
            return part

        noisy = with_noise(photograph("camera"), 25).repeat(3, axis=0)[:, None]
        assert denoise_channels(noisy, NoiseParameters(0.1), method).shape == noisy.shape
        assert calls == [(1, *noisy.shape[1:])]
        assert denoise_channels(noisy, NoiseParameters(0.0), method) is noisy
