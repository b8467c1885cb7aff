"""Tests of halves of pictures, and of low frequencies that come from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipfast.ops.scales import add_low_frequencies, halved


def picture(channels: int, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((channels, 1, rows, columns), np.float32)


@given(st.integers(1, 3), st.integers(2, 20), st.integers(2, 20))
def test_a_half_is_the_mean_of_two_by_two_pixels(channels, rows, columns):
    x = picture(channels, rows, columns)
    half = halved(x)
    assert half.shape == (channels, 1, rows // 2, columns // 2)
    cut = x[..., : rows // 2 * 2, : columns // 2 * 2]
    means = cut.reshape(channels, 1, rows // 2, 2, columns // 2, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(half, means, rtol=1e-6)


@given(st.integers(1, 3), st.integers(2, 40), st.integers(2, 40), st.floats(-1, 1, width=16))
def test_a_constant_difference_is_added_to_every_pixel(channels, rows, columns, offset):
    x = picture(channels, rows, columns)
    result = x.copy()
    add_low_frequencies(result, halved(x) + np.float32(offset))
    np.testing.assert_allclose(result, x + offset, atol=1e-5)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 99))
def test_the_difference_is_blurred_and_interpolated(rows, columns, seed):
    x = np.zeros((1, 1, rows, columns), np.float32)
    smaller = picture(1, rows // 2, columns // 2, seed)
    add_low_frequencies(x, smaller)
    matrices = []
    for size in (rows, columns):
        places = np.arange(size // 2)
        weights = np.exp(-0.5 * ((places[:, None] - places) / 1.5) ** 2)
        weights[np.abs(places[:, None] - places) > 5] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        at = (np.arange(size) - 0.5) / 2
        linear = np.stack([np.interp(at, places, row) for row in np.eye(size // 2)], axis=1)
        matrices.append(linear @ weights)
    expected = matrices[0] @ smaller[0, 0] @ matrices[1].T
    np.testing.assert_allclose(x[0, 0], expected, atol=1e-5)


def test_details_of_the_larger_picture_stay():
    x = picture(1, 64, 64)
    smaller = np.zeros((1, 1, 32, 32), np.float32)
    result = x.copy()
    add_low_frequencies(result, smaller)
    before, after = (np.abs(np.fft.fft2(p[0, 0])) for p in (x, result))
    assert after[0, 1] < 0.3 * before[0, 1]
    assert after[30, 30] > 0.9 * before[30, 30]


def test_pixels_without_noise_stay():
    x, smaller = picture(1, 8, 8), picture(1, 4, 4, seed=1)
    noisy = np.arange(64).reshape(1, 1, 8, 8) % 3 > 0
    result, free = x.copy(), x.copy()
    add_low_frequencies(result, smaller, noisy)
    add_low_frequencies(free, smaller)
    np.testing.assert_array_equal(result, np.where(noisy, free, x))


def test_nothing_else_is_changed():
    x, smaller = picture(1, 9, 7), picture(1, 4, 3, seed=1)
    before = smaller.copy()
    add_low_frequencies(x, smaller)
    np.testing.assert_array_equal(smaller, before)
    assert x.dtype == np.float32
    assert x.mean() == pytest.approx(smaller.mean(), abs=0.2)
