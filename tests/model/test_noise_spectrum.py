"""Test the spectrum of noise on made-up and real pictures."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from dipfast.errors import InputError
from dipfast.model.noise import NoiseModel
from dipfast.model.noise_estimate import estimate_noise
from dipfast.model.noise_spectrum import (
    autocorrelation,
    band_of,
    block_coefficients,
    find_spectrum,
    flattest_level,
    to_opponent,
)
from dipfast.settings.noise import BAND_EDGES, NoiseParameters

Floats = np.ndarray[Any, np.dtype[np.float64]]


def photograph(size: int = 256) -> Floats:
    """Return the middle of a photograph, (3, size, size), in [0, 1]."""
    image = skimage.data.coffee()
    top, left = ((n - size) // 2 for n in image.shape[:2])
    return np.moveaxis(image[top : top + size, left : left + size], 2, 0) / 255


def smoothed(noise: Floats, reach: int) -> Floats:
    """Return noise that is averaged over squares, periodically, with the same variance."""
    result = noise
    for axis in (1, 2):
        result = np.mean([np.roll(result, k, axis) for k in range(reach)], axis=0)
    return np.asarray(result * reach)


def test_the_flattest_level_of_a_grey_picture_in_colour_is_that_of_one_channel() -> None:
    noise = np.random.default_rng(0).normal(0, 2 / 255, (1, 256, 256))
    grey = photograph()[1:2] + noise
    level = flattest_level(block_coefficients(grey))
    assert level is not None
    assert level == pytest.approx(2 / 255, rel=0.3)
    assert flattest_level(block_coefficients(np.repeat(grey, 3, axis=0))) == pytest.approx(level)


@pytest.mark.parametrize("sigmas", [(0.004, 0.02), (0.02, 0.004), (0.004, 0.004, 0.004, 0.02)])
def test_the_flattest_level_of_channels_that_differ_is_their_mean(
    sigmas: tuple[float, ...],
) -> None:
    white = np.random.default_rng(0).normal(0, 1, (len(sigmas), 256, 256))
    noisy = np.linspace(0.2, 0.8, 256)[:, None] + white * np.reshape(sigmas, (-1, 1, 1))
    mean = np.sqrt(np.mean(np.square(sigmas)))
    assert flattest_level(block_coefficients(noisy)) == pytest.approx(mean, rel=0.05)
    assert estimate_noise(torch.from_numpy(noisy)).model.sigma == pytest.approx(mean, rel=0.05)


def test_every_band_of_white_noise_has_its_level() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 512, 512))
    found = find_spectrum(block_coefficients(0.5 + noise), always=True)
    assert found is not None
    np.testing.assert_allclose(found.levels[0], 0.1, rtol=0.03)


def test_bands_cover_the_block() -> None:
    bands = band_of()
    assert bands[0, 0] == 0
    assert set(bands.ravel()) == set(range(len(BAND_EDGES) - 1))


def test_opponent_colours_are_orthonormal() -> None:
    planes = np.random.default_rng(0).normal(size=(3, 8, 9))
    assert np.square(to_opponent(planes)).sum() == pytest.approx(np.square(planes).sum())
    assert to_opponent(planes[:2]) is not None
    np.testing.assert_array_equal(to_opponent(planes[:2]), planes[:2])
    grey = np.repeat(planes[:1], 3, axis=0)
    assert np.abs(to_opponent(grey)[1:]).max() < 1e-12


@pytest.mark.parametrize("sigma", [5, 10, 25, 50])
def test_white_noise_is_white(sigma: float) -> None:
    noise = np.random.default_rng(0).normal(0, sigma / 255, (3, 256, 256))
    assert find_spectrum(block_coefficients((photograph() + noise).clip(0, 1))) is None
    assert find_spectrum(block_coefficients(0.5 + noise)) is None


@pytest.mark.parametrize("sigma", [5, 10, 25])
@pytest.mark.parametrize("reach", [2, 3])
def test_coarse_noise_is_found(sigma: float, reach: int) -> None:
    noise = smoothed(np.random.default_rng(0).normal(0, sigma / 255, (3, 256, 256)), reach)
    true = float((noise[:, :, 1:] * noise[:, :, :-1]).mean() / np.square(noise).mean())
    found = find_spectrum(block_coefficients(0.5 + noise))
    assert found is not None
    assert found.sigma * 255 == pytest.approx(sigma, rel=0.1)
    assert autocorrelation(found.levels) == pytest.approx(true, abs=0.1)
    in_photograph = find_spectrum(block_coefficients(photograph() + noise))
    assert in_photograph is not None
    assert in_photograph.sigma * 255 == pytest.approx(sigma, rel=0.5 if sigma == 5 else 0.35)


def blurred(planes: Any, reach: float) -> Floats:
    """Return planes after a Gaussian blur."""
    return np.stack([gaussian_filter(plane, reach) for plane in planes])


@pytest.mark.parametrize("reach", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_blurred_noise_is_found(channels: int, reach: float) -> None:
    clean = photograph()[:channels]
    noise = blurred(np.random.default_rng(0).normal(0, 40 / 255, clean.shape), reach)
    for picture in (clean, blurred(clean, reach)):
        noisy = ((picture + noise).clip(0, 1) * 255).round() / 255
        found = estimate_noise(torch.from_numpy(noisy))
        assert found.model.spectrum is not None
        assert not found.quantised
        assert 0.9 < found.model.sigma / noise.std() < 1.5


def test_enlarged_noise_is_found_without_rounding() -> None:
    noise = zoom(np.random.default_rng(0).normal(0, 0.1, (1, 128, 128)), (1, 2, 2), order=1)
    noise = blurred(noise, 1.2)
    found = estimate_noise(torch.from_numpy(0.5 + noise)).model
    assert found.spectrum is not None
    assert found.sigma == pytest.approx(noise.std(), rel=0.15)


@pytest.mark.parametrize("reach", [0.7, 1.0, 1.5, 2.0])
def test_smooth_structure_is_no_smooth_noise(reach: float) -> None:
    rows, columns = np.mgrid[:256, :256]
    grid = 0.1 + 0.8 * ((columns % 16 < 2) | (rows % 16 < 2))
    camera = skimage.data.camera()[100:356, 100:356] / 255
    for clean in (photograph(), photograph()[:1], camera[None], grid[None], rows[None] / 255):
        smooth = blurred(clean, reach)
        for picture in (smooth, (smooth * 255).round() / 255):
            found = find_spectrum(block_coefficients(picture))
            assert found is None or not found.smooth


@pytest.mark.parametrize("sigma", [0, 1, 3])
def test_texture_that_fills_a_picture_is_no_noise(sigma: float) -> None:
    tissue = np.moveaxis(skimage.data.immunohistochemistry()[64:320, 64:320], 2, 0)
    noise = np.random.default_rng(0).normal(0, sigma, tissue.shape)
    noisy = torch.from_numpy((tissue + noise).round().clip(0, 255) / 255)
    model = estimate_noise(noisy).model
    assert not model.is_correlated
    assert model.typical_sigma * 255 == pytest.approx(sigma, abs=0.5)
    assert estimate_noise(noisy, "correlated").model.is_correlated


@pytest.mark.parametrize("coarse", [(0,), (1,), (1, 3), (0, 1, 2, 3), ()])
def test_any_of_several_channels_may_tell_it(coarse: tuple[int, ...]) -> None:
    planes = np.random.default_rng(0).normal(size=(4, 192, 192))
    for channel in coarse:
        planes[channel] = gaussian_filter(planes[channel], 0.8, mode="wrap")
        planes[channel] /= planes[channel].std()
    found = find_spectrum(block_coefficients(0.5 + 0.05 * planes))
    assert (found is not None) == bool(coarse)
    if found is not None:
        assert len(found.levels) == 4
        assert found.sigma == pytest.approx(0.05, rel=0.15)


def test_a_channel_with_little_noise_does_not_tell_it() -> None:
    planes = np.random.default_rng(0).normal(size=(4, 192, 192))
    planes[2] = 0.3 * gaussian_filter(planes[2], 0.8, mode="wrap")
    assert find_spectrum(block_coefficients(0.5 + 0.05 * planes)) is None


def test_noise_of_brightness_alone() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 256, 256))
    found = find_spectrum(block_coefficients(0.3 * photograph() + 0.3 + noise))
    assert found is not None
    assert found.sigma == pytest.approx(0.1, rel=0.15)
    brightness, *colours = found.levels
    assert max(max(levels[2:]) for levels in colours) < 0.2 * min(brightness)


def as_jpeg(planes: Any, quality: int) -> Any:
    """Return planes in [0, 1] as a file of JPEG has them."""
    pixels = (np.moveaxis(planes, 0, 2) * 255).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "jpeg", quality=quality)
    return np.moveaxis(np.asarray(Image.open(stream)), 2, 0) / 255


def test_jpeg_is_recognised() -> None:
    noise = np.random.default_rng(0).normal(0, 6 / 255, (3, 256, 256))
    found = find_spectrum(block_coefficients(as_jpeg(photograph() + noise, 75)))
    assert found is not None
    assert found.quantised


@pytest.mark.parametrize("shape", [(1, 15, 40), (3, 16, 16), (1, 40, 20)])
def test_small_pictures_tell_nothing(shape: tuple[int, ...]) -> None:
    assert (
        find_spectrum(block_coefficients(np.random.default_rng(0).random(shape)), always=True)
        is None
    )


def test_gaps_and_flat_parts_are_left_out() -> None:
    noise = smoothed(np.random.default_rng(0).normal(0, 0.05, (1, 256, 256)), 2)
    picture = 0.5 + noise
    known = np.ones(picture.shape, dtype=bool)
    known[:, :, :60] = False
    broken = np.where(known, picture, 77.0)
    broken[:, 200:] = 0.0  # a black border
    found = find_spectrum(block_coefficients(broken, known))
    assert found is not None
    assert found.sigma == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("reach", [1, 2])
def test_asked_for(reach: int) -> None:
    noise = smoothed(np.random.default_rng(0).normal(0, 0.05, (1, 128, 128)), reach)
    import torch

    model = estimate_noise(torch.from_numpy(0.5 + noise), "correlated").model
    assert model.is_correlated
    assert model.sigma == pytest.approx(0.05, rel=0.1)
    assert model.spectrum is not None
    expected = 0.5 if reach == 2 else 0.0
    assert autocorrelation(model.spectrum) == pytest.approx(expected, abs=0.12)


def test_autocorrelation_of_a_flat_spectrum_is_none() -> None:
    flat = ((1.0,) * (len(BAND_EDGES) - 1),)
    assert abs(autocorrelation(flat)) < 1e-9
    assert autocorrelation(flat, 0, 0) == pytest.approx(1)
    assert autocorrelation(((0.0,) * (len(BAND_EDGES) - 1),)) == 0


@pytest.mark.parametrize("spectrum", [(), ((1.0,),), ((-1.0,) * 7,), ((float("nan"),) * 7,)])
def test_bad_spectra_are_refused(spectrum: Any) -> None:
    with pytest.raises(InputError, match="spectrum"):
        NoiseParameters(0.1, spectrum=spectrum)


def test_spectrum_is_kept_as_tuples() -> None:
    model = NoiseModel(0.1, spectrum=[[1] * 7])  # type: ignore[arg-type]
    assert model.spectrum == ((1.0,) * 7,)
    assert model.is_correlated
    assert hash(model) == hash(NoiseModel(0.1, spectrum=((1.0,) * 7,)))


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_a_grid_is_not_coarse_noise(sigma: float) -> None:
    rows, columns = np.mgrid[:256, :256]
    grid = 20 + 200.0 * ((columns % 16 < 2) | (rows % 16 < 2))
    noisy = (grid + np.random.default_rng(4).normal(0, sigma, grid.shape)).round() / 255
    found = estimate_noise(torch.from_numpy(noisy[None]))
    assert found.model.spectrum is None
    assert found.model.sigma * 255 == pytest.approx(np.hypot(sigma, 0.29), rel=0.6)
