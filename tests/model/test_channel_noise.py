"""Noise that is stronger in some channels is found, modelled and told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data

import dipfast
from dipfast import NoiseModel
from dipfast.errors import InputError, InputTypeError
from dipfast.model.channel_noise import detail_levels, model_of_channels, scaled
from dipfast.model.noise_estimate import estimate_noise


def photograph(name: str = "astronaut", size: int = 160) -> torch.Tensor:
    """Return the middle of a photograph, (3, H, W), in [0, 1]."""
    pixels = getattr(data, name)()
    row, column = ((n - size) // 2 for n in pixels.shape[:2])
    part = pixels[row : row + size, column : column + size].transpose(2, 0, 1)
    return torch.from_numpy(part / 255.0)


def levels_of(model: NoiseModel, channels: int = 3) -> np.ndarray:
    """Return the standard deviations of the channels at medium brightness."""
    return model.typical_sigma * np.array(model.channel_levels or (1,) * channels)


class TestModel:
    LEVELS = (1.0, 2.0, 3.0)

    def test_levels_have_a_mean_square_of_one(self) -> None:
        model = NoiseModel(0.1, channel_levels=self.LEVELS)
        assert model.channel_levels is not None
        assert np.mean(np.square(model.channel_levels)) == pytest.approx(1)
        assert model.channel_levels[2] == pytest.approx(3 * model.channel_levels[0])
        assert NoiseModel(0.1, channel_levels=model.channel_levels) == model

    @pytest.mark.parametrize("gain", [0.0, 0.02])
    @pytest.mark.parametrize("ends", [(None, None), (0.0, 1.0)])
    def test_a_channel_has_what_its_own_model_says(
        self, gain: float, ends: tuple[float | None, float | None]
    ) -> None:
        model = NoiseModel(0.1, gain, *ends, channel_levels=self.LEVELS)
        clean = torch.linspace(0, 1, 48, dtype=torch.float64).repeat(3, 4, 1)
        measured = model.sample(clean, torch.Generator().manual_seed(0))
        for of_all in (
            model.variance(clean),
            model.expectation(clean),
            model.residual_variance(clean),
        ):
            assert of_all.shape == clean.shape
        for channel in range(3):
            own = model.of_channels([channel])
            one = slice(channel, channel + 1)
            assert own.channel_levels is None
            torch.testing.assert_close(model.variance(clean)[one], own.variance(clean[one]))
            torch.testing.assert_close(model.expectation(clean)[one], own.expectation(clean[one]))
        # Scaled to the same variance, each channel counts by its noise.
        squares = model.residual(clean, measured).square().mean(dim=(1, 2))
        expected = model.residual_variance(clean).mean(dim=(1, 2))
        np.testing.assert_allclose(squares, expected, rtol=0.5)

    def test_samples_have_these_levels(self) -> None:
        model = NoiseModel(0.1, channel_levels=self.LEVELS)
        noise = model.sample(torch.zeros(2, 3, 80, 80), torch.Generator().manual_seed(0))
        found = noise.std(dim=(0, 2, 3)).numpy()
        np.testing.assert_allclose(found, levels_of(model), rtol=0.05)

    def test_some_channels(self) -> None:
        model = NoiseModel(0.1, 0.02, low=0.0, channel_levels=self.LEVELS)
        part = model.of_channels([2, 0])
        assert isinstance(part, NoiseModel)
        assert part.low == 0.0
        np.testing.assert_allclose(levels_of(part, 2), levels_of(model)[[2, 0]])
        assert NoiseModel(0.1).of_channels([1]) == NoiseModel(0.1)
        alike = NoiseModel(0.1, channel_levels=(1, 1, 2)).of_channels([0, 1])
        assert alike.channel_levels is None

    @pytest.mark.parametrize(
        ("levels", "words"),
        [
            ((0.0, 0.0), "positive number"),
            ((), "positive number"),
            ((1.0, -1.0), "channel_levels"),
            ((1.0, float("nan")), "channel_levels"),
            (("a",), "channel_levels"),
        ],
    )
    def test_refused(self, levels: tuple[float, ...], words: str) -> None:
        with pytest.raises((InputError, TypeError), match=words):
            NoiseModel(0.1, channel_levels=levels)

    def test_one_number_is_refused(self) -> None:
        with pytest.raises(InputTypeError, match="a number for each channel, got 2"):
            NoiseModel(0.1, channel_levels=2.0)  # type: ignore[arg-type]

    @pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
    def test_levels_have_any_factor(self, scale: float) -> None:
        model = NoiseModel(0.1, channel_levels=tuple(scale * level for level in self.LEVELS))
        assert model.channel_levels == pytest.approx(
            NoiseModel(0.1, channel_levels=self.LEVELS).channel_levels
        )

    def test_a_spectrum_of_channels_says_it_too(self) -> None:
        rows = ((1.0,) * 7,) * 3
        with pytest.raises(InputError, match="both"):
            NoiseModel(0.1, spectrum=rows, channel_levels=(1, 2, 3))
        NoiseModel(0.1, spectrum=rows[:1], channel_levels=(1, 2, 3))

    @pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5), (20,)])
    def test_pictures_of_other_channels_are_refused(self, shape: tuple[int, ...]) -> None:
        model = NoiseModel(0.1, channel_levels=self.LEVELS)
        with pytest.raises(InputError, match="channel_levels of 3 channels"):
            model.variance(torch.zeros(shape))
        image = np.random.default_rng(0).random((24, 24, 4)).astype(np.float32)
        with pytest.raises(InputError, match="channel_levels of 3 channels, and image has 4"):
            dipfast.denoise(image, noise=model, method="nl_ridge", data_range=(0, 1))


class TestEstimate:
    @pytest.mark.parametrize("sigmas", [(10, 40, 20), (5, 8, 5), (30, 30, 45), (1, 50, 25)])
    @pytest.mark.parametrize("name", ["astronaut", "coffee"])
    def test_each_channel_has_its_level(self, name: str, sigmas: tuple[int, ...]) -> None:
        clean = photograph(name)
        noise = np.random.default_rng(0).normal(size=clean.shape)
        deviations = np.array(sigmas)[:, None, None] / 255
        noisy = (clean.numpy() + noise * deviations).clip(0, 1)
        model = estimate_noise(torch.from_numpy(noisy)).model
        assert model.channel_levels is not None
        found = 255 * levels_of(model)
        # Texture makes up a little of weak noise.
        np.testing.assert_array_less(np.abs(found - sigmas), 0.16 * np.array(sigmas) + 1)

    @pytest.mark.parametrize("sigma", [0, 2, 5, 15])
    @pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "immunohistochemistry"])
    def test_texture_of_colours_is_no_noise_of_channels(self, name: str, sigma: int) -> None:
        clean = photograph(name)
        noise = np.random.default_rng(0).normal(size=clean.shape) * (sigma / 255)
        noisy = ((clean.numpy() + noise).clip(0, 1) * 255).round() / 255
        assert estimate_noise(torch.from_numpy(noisy)).model.channel_levels is None

    def test_photons_of_channels_with_other_factors(self) -> None:
        clean = photograph("coffee")
        factors = np.array([4.0, 1.0, 1.5])[:, None, None]
        variance = factors * 0.003 * clean.numpy() + factors**2 * 0.01**2
        noise = np.random.default_rng(0).normal(size=clean.shape)
        model = estimate_noise(torch.from_numpy(clean.numpy() + noise * np.sqrt(variance))).model
        assert model.gain > 0
        found = model.variance(clean).mean(dim=(1, 2)).sqrt()
        np.testing.assert_allclose(found, np.sqrt(variance.mean(axis=(1, 2))), rtol=0.12)

    def test_a_channel_of_one_value_leaves_the_others_theirs(self) -> None:
        clean = photograph()
        noise = np.random.default_rng(0).normal(size=clean.shape)
        noisy = clean.numpy() + noise * np.array([10, 30, 20])[:, None, None] / 255
        noisy[2] = 0.25
        model = estimate_noise(torch.from_numpy(noisy)).model
        found = 255 * levels_of(model)
        np.testing.assert_allclose(found[:2], (10, 30), rtol=0.15)  # and texture
        assert model.channel_levels is not None
        assert len(model.channel_levels) == 3

    def test_outliers_are_judged_by_the_noise_of_their_channel(self) -> None:
        clean = np.full((2, 120, 120), 0.4)
        noisy = clean + np.random.default_rng(0).normal(size=clean.shape) * np.array(
            [[[0.005]], [[0.05]]]
        )
        noisy[:, 60, 60] += 0.15  # thirty deviations of the first channel, three of the second
        outliers = estimate_noise(torch.from_numpy(noisy)).outliers
        assert outliers is not None
        assert outliers.nonzero().tolist() == [[0, 60, 60]]

    @pytest.mark.parametrize(("first", "second"), [(0.02, 0.021), (0.02, 0.1)])
    def test_channels_of_other_brightness(self, first: float, second: float) -> None:
        clean = photograph("chelsea")[:2] + torch.tensor([0.0, 1.0])[:, None, None]
        generator = torch.Generator().manual_seed(0)
        noisy = [
            NoiseModel(level).sample(plane[None], generator)
            for level, plane in zip((first, second), clean)
        ]
        model = estimate_noise(torch.cat(noisy) / 3).model
        assert (model.channel_levels is None) == (second < 1.1 * first)
        np.testing.assert_allclose(3 * levels_of(model, 2), (first, second), rtol=0.15)

    def test_few_pixels_tell_no_levels(self) -> None:
        noisy = np.random.default_rng(0).normal(0.5, 0.1, (3, 24, 24))
        noisy[1] = 0.5 + (noisy[1] - 0.5) * 1.3
        assert estimate_noise(torch.from_numpy(noisy)).model.channel_levels is None

    def test_what_is_told_has_the_levels(self) -> None:
        clean = photograph()
        noise = np.random.default_rng(0).normal(size=clean.shape)
        noisy = clean.numpy() + noise * np.array([10, 40, 20])[:, None, None] / 255
        image = noisy.transpose(1, 2, 0).astype(np.float32)
        report = dipfast.estimate_noise(image, data_range=(0, 1))
        assert any("times that in the channels" in line for line in report.lines())
        result = dipfast.denoise(image, method="nl_ridge", quality="fast", data_range=(0, 1))
        assert "times that in the channels" in str(result.summary())
        assert result.found["noise"][0]["channel_levels"] is not None

    def test_nothing_is_noted_where_channels_are_alike(self) -> None:
        image = np.random.default_rng(0).random((24, 24, 3)).astype(np.float32)
        result = dipfast.denoise(image, sigma=0.1, method="nl_ridge", quality="fast")
        assert result.found["noise"][0]["channel_levels"] is None
        assert "in the channels" not in str(result.summary())


class TestMeanOfModels:
    def test_variances_are_those_of_the_channels(self) -> None:
        models = [NoiseModel(0.1, 0.02), NoiseModel(0.2, 0.08), NoiseModel(0.0)]
        brightness = [0.3, 0.6, 0.5]
        found = model_of_channels(models, brightness)
        assert found is not None
        for channel, (model, value) in enumerate(zip(models, brightness)):
            there = torch.full((3, 1, 1), value, dtype=torch.float64)
            expected = 0.0 if model.is_free else float(model.variance(there)[channel])
            assert float(found.variance(there)[channel]) == pytest.approx(expected, abs=1e-9)

    def test_levels_by_details(self) -> None:
        details = np.random.default_rng(0).normal(size=(2, 4000))
        channels = [(np.ones(4000), details[0]), (np.ones(4000), 3 * details[1])]
        first, second = detail_levels(channels)
        assert second / first == pytest.approx(3, rel=0.1)
        assert detail_levels([(means[:9], x[:9]) for means, x in channels]).tolist() == [1, 1]
        assert detail_levels([(np.ones(400), np.zeros(400))] * 2).tolist() == [1, 1]

    def test_units_of_equal_noise(self) -> None:
        pixels = np.ones((2, 3, 3))
        model = NoiseModel(0.1, channel_levels=(1, 3))
        first, second = scaled(pixels, model)[:, 0, 0]
        assert first / second == pytest.approx(3)
        assert scaled(pixels, NoiseModel(0.1)) is pixels
