"""Test the noise level of pictures whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipfast import ops
from dipfast.ops.noise_level import (
    all_in_windows,
    find_isolated,
    find_outliers,
    wavelet_blocks,
    wavelet_details,
)


class TestEstimateNoise:
    @pytest.mark.parametrize("sigma", [0.01, 0.1, 25.0])
    def test_white_noise_on_shading_and_edges(self, sigma: float) -> None:
        rows, columns = np.mgrid[0:256, 0:256]
        clean = sigma * (0.3 * rows + 0.1 * columns + 20 * (columns > 128))
        noisy = clean + np.random.default_rng(0).normal(0, sigma, clean.shape)
        assert ops.estimate_noise(noisy) == pytest.approx(sigma, rel=0.03)

    def test_channels_and_tensors(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, (64, 64, 3))
        expected = ops.estimate_noise(noise, channel_axis=-1)
        assert expected == pytest.approx(0.1, rel=0.05)
        assert ops.estimate_noise(np.moveaxis(noise, -1, 0), channel_axis=0) == expected
        assert ops.estimate_noise(torch.from_numpy(noise), channel_axis=2) == expected

    def test_nothing_to_see(self) -> None:
        assert ops.estimate_noise(np.full((32, 32), 0.7)) == 0.0
        assert ops.estimate_noise(np.ones((1, 1))) == 0.0
        assert ops.estimate_noise(np.ones((3, 100))) == 0.0

    @pytest.mark.parametrize("shape", [(1, 400), (2, 200), (3, 150), (400, 1), (200, 2)])
    def test_a_few_rows(self, shape: tuple[int, int]) -> None:
        noisy = 5 + np.random.default_rng(0).normal(0, 0.5, shape)
        assert ops.estimate_noise(noisy) == pytest.approx(0.5, rel=0.2)

    def test_too_small_to_tell(self) -> None:
        with pytest.raises(ValueError, match="3 x 2 pixels is too small to tell its noise, 4 in"):
            ops.estimate_noise(np.arange(6.0).reshape(3, 2))

    @pytest.mark.parametrize("offset", [0.0, 100.0])
    def test_hot_pixels_in_a_flat_picture(self, offset: float) -> None:
        rng = np.random.default_rng(0)
        picture = np.full((64, 64), offset)
        picture[rng.integers(0, 64, 8), rng.integers(0, 64, 8)] = 255
        assert ops.estimate_noise(picture) == 0

    def test_a_hot_pixel_in_the_sky(self) -> None:
        sky = np.random.default_rng(0).normal(100, 5, (128, 128))
        expected = ops.estimate_noise(sky)
        sky[40, 50] = 60_000
        assert ops.estimate_noise(sky) == pytest.approx(expected, rel=0.01)

    @pytest.mark.parametrize("shape", [(32, 32), (2, 64), (128, 128)])
    @pytest.mark.parametrize("peak", [1e15, -1e20, 1e300])
    def test_an_outlier_of_any_size(self, peak: float, shape: tuple[int, int]) -> None:
        sky = np.random.default_rng(0).normal(100, 5, shape)
        expected = ops.estimate_noise(sky)
        sky[1, 5] = peak
        assert ops.estimate_noise(sky) == pytest.approx(expected, rel=0.3)

    def test_unknown_pixels_of_any_size(self) -> None:
        sky = np.random.default_rng(0).normal(100, 5, (64, 64))
        known = np.random.default_rng(1).random(sky.shape) > 0.03
        filled = np.where(known, sky, 1e20)
        sky[10, 10] = filled[10, 10] = 60_000
        assert np.array_equal(find_outliers(filled, known), find_outliers(sky, known))
        for got, expected in zip(wavelet_blocks(filled, known), wavelet_blocks(sky, known)):
            np.testing.assert_allclose(got, expected)

    @pytest.mark.parametrize("share", [0.001, 0.01, 0.03])
    def test_hot_and_dead_pixels_in_noise(self, share: float) -> None:
        rng = np.random.default_rng(0)
        noisy = rng.normal(100, 10, (256, 256))
        noisy[rng.random(noisy.shape) < share / 2] = 4095
        noisy[rng.random(noisy.shape) < share / 2] = 0
        assert ops.estimate_noise(noisy) == pytest.approx(10, rel=0.03)

    def test_black_and_white_pages(self) -> None:
        assert ops.estimate_noise(skimage.data.horse().astype(float)) == 0
        page = np.ones((256, 256))
        for row in range(10, 240, 20):  # lines of marks, such as letters
            page[row : row + 9, 10:240:6] = 0
            page[row + 4, 10:240] = 0
        assert ops.estimate_noise(page) == 0
        rows, columns = np.mgrid[:64, :64]
        assert ops.estimate_noise((rows + columns) % 2) == 0

    def test_saturated_regions_do_not_count(self) -> None:
        noisy = np.random.default_rng(0).normal(100, 10, (256, 256))
        noisy[:160] = 255
        assert ops.estimate_noise(noisy) == pytest.approx(10, rel=0.03)

    @given(
        power=st.integers(-40, 40),
        offset=st.sampled_from([0.0, -3.0, 1024.0]),
        shape=st.tuples(st.integers(1, 40), st.integers(4, 40)),
        seed=st.integers(0, 99),
    )
    def test_any_unit(self, power: int, offset: float, shape: tuple[int, int], seed: int) -> None:
        # 16 bits, so that sums with the offset are exact.
        picture = np.random.default_rng(seed).integers(0, 2**16, shape) / 2**16
        scale = 2.0**power
        expected = ops.estimate_noise(picture)
        assert ops.estimate_noise(scale * (picture + offset)) == pytest.approx(
            scale * expected, rel=1e-9, abs=1e-9 * scale
        )

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float16", "float32", ">f4"])
    def test_every_dtype(self, dtype: str) -> None:
        picture = np.random.default_rng(0).normal(100, 10, (64, 64, 3)).round().astype(dtype)
        expected = ops.estimate_noise(picture.astype(float), channel_axis=-1)
        assert ops.estimate_noise(picture) == expected  # the channels are recognised
        if dtype != ">f4":
            assert ops.estimate_noise(torch.from_numpy(picture)) == expected

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_tensors_that_are_a_negated_view(self, dtype: torch.dtype) -> None:
        picture = torch.rand(32, 33, dtype=dtype)
        negated = torch.complex(picture, -picture).conj().imag
        assert ops.estimate_noise(negated) == ops.estimate_noise(picture)

    def test_masked_arrays_are_refused(self) -> None:
        with pytest.raises(ValueError, match="image has 1 masked pixel, which only inpaint fills"):
            ops.estimate_noise(np.ma.masked_equal(np.arange(64.0).reshape(8, 8), 3))


class TestIsolated:
    """What stands alone is a hot pixel; a star is wider, and a line longer."""

    @staticmethod
    def found(plane: np.ndarray) -> np.ndarray:
        return find_isolated(plane, find_outliers(plane))

    def test_pixels_and_not_stars_or_lines(self) -> None:
        plane = np.random.default_rng(0).normal(100, 5, (64, 64))
        hot = [(10, 10), (0, 30), (63, 63), (40, 41)]
        for place in hot:
            plane[place] += 300
        rows, columns = np.mgrid[0:64, 0:64]
        plane += 500 * np.exp(-((rows - 20) ** 2 + (columns - 50) ** 2) / 2.25)
        plane[50, 5:40] += 300
        found = self.found(plane)
        assert all(found[place] for place in hot)
        assert not found[15:26, 45:56].any()
        assert not found[50, 6:39].any()

    def test_two_side_by_side_are_found(self) -> None:
        plane = np.random.default_rng(0).normal(100, 5, (32, 32))
        plane[8, 8:10] += 300
        assert self.found(plane)[8, 8:10].all()

    def test_nothing_in_a_flat_image(self) -> None:
        assert not self.found(np.ones((8, 8))).any()

    def test_unknown_neighbours_do_not_count(self) -> None:
        plane = np.random.default_rng(0).normal(100, 5, (32, 32))
        plane[8, 8] += 300
        known = np.ones(plane.shape, dtype=bool)
        known[:, 9:12] = False
        plane[:, 9:12] = 1e6
        assert find_isolated(plane, find_outliers(plane, known), known)[8, 8]


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 4), (5, 3), (16, 16)])
def test_windows_with_nothing_but_true(size: tuple[int, int]) -> None:
    marks = np.random.default_rng(0).random((40, 30)) < 0.97
    marks[10:30, 5:25] = True
    windows = np.lib.stride_tricks.sliding_window_view(marks, size)
    np.testing.assert_array_equal(all_in_windows(marks, size), windows.all(axis=(2, 3)))


@pytest.mark.parametrize("shape", [(50, 41), (2, 30), (30, 3)])
def test_means_and_details_of_blocks(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    plane, known = rng.random(shape), rng.random(shape) < 0.9
    for places in (None, known, np.ones(shape, bool)):
        means, details = wavelet_blocks(plane, places)
        assert len(means) == len(details) > 0
        np.testing.assert_array_equal(wavelet_details(plane, places), details)
    # What is known everywhere is as good as what is not asked for.
    np.testing.assert_array_equal(means, wavelet_blocks(plane)[0])
    if min(shape) > 3:  # the first block is around the pixel (2, 2)
        assert means[0] == pytest.approx(plane[:10, :10].mean())
