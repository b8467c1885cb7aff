"""The metrics against the plain definitions, on random shapes and memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.tensors import close, images, value_and_gradients
from torch import Tensor

from dipfast import ops
from dipfast.ops import reference


class TestMetrics:
    @given(images(count=2))
    def test_mse_is_the_definition(self, tensors: list[Tensor]) -> None:
        value, gradients = value_and_gradients(ops.mse, *tensors)
        expected, slopes = value_and_gradients(reference.mse, *tensors)
        close(value, expected)
        for gradient, slope in zip(gradients, slopes):
            close(gradient, slope)
        a, b = (t.numpy() for t in tensors)
        assert ops.mse(a, b) == pytest.approx(value.item(), rel=1e-6)

    @given(images(count=2), st.sampled_from([1.0, 255.0]))
    def test_psnr_is_the_definition(self, tensors: list[Tensor], data_range: float) -> None:
        a, b = tensors
        value = ops.psnr(a, b, data_range=data_range)
        close(value, reference.psnr(a, b, data_range))
        in_numpy = ops.psnr(a.numpy(), b.numpy(), data_range=data_range)
        assert in_numpy == pytest.approx(value.item(), rel=1e-6, abs=1e-5)

    def test_psnr_equals_scikit_image(self) -> None:
        from skimage.metrics import peak_signal_noise_ratio

        rng = np.random.default_rng(0)
        a, b = rng.integers(0, 256, (2, 33, 47, 3), dtype=np.uint8)
        assert ops.psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b), rel=1e-12)

    def test_psnr_of_equal_images_is_infinite(self) -> None:
        a = np.ones((3, 3))
        assert ops.psnr(a, a, data_range=1.0) == math.inf
        assert ops.psnr(torch.ones(3), torch.ones(3), data_range=1.0).item() == math.inf

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_mse_of_what_is_not_finite_is_nan(self, backend: str) -> None:
        a = np.array([0.0, math.inf])
        value = ops.mse(a, np.zeros(2), backend=backend)
        assert isinstance(value, float)
        assert math.isnan(value)

    def test_memory_that_is_not_aligned(self) -> None:
        a = np.frombuffer(b"\0" + np.arange(6.0).tobytes(), offset=1).reshape(2, 3)
        assert not a.flags.aligned
        assert ops.mse(a, np.zeros((2, 3))) == pytest.approx(55 / 6)
        assert ops.total_variation(a) == 13.0
