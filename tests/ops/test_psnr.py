"""Test PSNR: its definition, its peers and its data range; test_mse.py has what both share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.tensors import close, images
from torch import Tensor

from dipfast import ops
from dipfast.ops import _reference as reference


class TestPsnr:
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

    def test_ranges(self) -> None:
        a, b = np.zeros((2, 2)), np.ones((2, 2))
        for data_range in (
            10,
            np.uint8(10),
            np.array(10.0),
            torch.tensor(10),
            (-5, 5),
            [0.0, 10.0],
            np.array([2, 12]),
        ):
            assert ops.psnr(a, b, data_range=data_range) == 20
        for wrong in (
            True,
            np.bool_(True),
            torch.tensor(True),
            0,
            -1.0,
            math.nan,
            math.inf,
            10**400,
            "1",
            1j,
            (5, 5),
            (5, 1),
            (1, 2, 3),
            np.ones((2, 2)),
        ):
            with pytest.raises(ValueError, match="data_range must be positive, or a pair"):
                ops.psnr(a, b, data_range=wrong)
        with pytest.raises(TypeError, match=r"no gradient: pass data_range.detach\(\)"):
            ops.psnr(a, b, data_range=torch.tensor(1.0, requires_grad=True))
