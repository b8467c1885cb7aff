"""Test the types of the results of public operations.

``mypy tests/ops/test_types.py`` and ``pyright tests/ops/test_types.py`` check the lines with
``assert_type``, which do nothing when pytest runs them; pytest checks what the results are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import assert_type

from dipfast import ops
from dipfast.ops._arguments import Floats

ARRAY: NDArray[np.float32] = np.linspace(0, 1, 16 * 16, dtype=np.float32).reshape(16, 16)
BATCH: NDArray[Any] = np.stack([ARRAY, ARRAY]).repeat(3, axis=0)
TENSOR: Tensor = torch.from_numpy(ARRAY)


def is_array(*results: object) -> bool:
    return all(isinstance(result, np.ndarray) for result in results)


def is_tensor(*results: object) -> bool:
    return all(isinstance(result, Tensor) for result in results)


def is_float(*results: object) -> bool:
    return all(type(result) is float for result in results)


class TestArrays:
    def test_total_variation(self) -> None:
        value = ops.total_variation(ARRAY, kind="isotropic")
        assert_type(value, float)
        both = ops.total_variation(ARRAY, return_gradient=True)
        assert_type(both, tuple[float, Floats])
        assert is_float(value, both[0])
        assert is_array(both[1])

    def test_tv_objective(self) -> None:
        mask = ARRAY > 0.5
        value = ops.tv_objective(ARRAY, ARRAY, 0.1, mask=mask)
        assert_type(value, float)
        with_gradient = ops.tv_objective(ARRAY, ARRAY, 0.1, return_gradient=True)
        assert_type(with_gradient, tuple[float, Floats])
        terms = ops.tv_objective(ARRAY, ARRAY, 0.1, return_terms=True)
        assert_type(terms, tuple[float, float, float])
        everything = ops.tv_objective(ARRAY, ARRAY, 0.1, return_terms=True, return_gradient=True)
        assert_type(everything, tuple[float, float, float, Floats])
        assert is_float(value, with_gradient[0], *terms, *everything[:3])
        assert is_array(with_gradient[1], everything[3])

    def test_tv_denoise(self) -> None:
        u = ops.tv_denoise(ARRAY, 0.1)
        assert_type(u, Floats)
        with_gap = ops.tv_denoise(ARRAY, 0.1, return_gap=True)
        assert_type(with_gap, tuple[Floats, float])
        with_dual = ops.tv_denoise(ARRAY, 0.1, return_dual=True)
        assert_type(with_dual, tuple[Floats, Floats])
        everything = ops.tv_denoise(ARRAY, sigma=0.1, return_dual=True, return_gap=True)
        assert_type(everything, tuple[Floats, Floats, float])
        assert is_array(u, with_gap[0], *with_dual, *everything[:2])
        assert is_float(with_gap[1], everything[2])

    def test_resample(self) -> None:
        small, large = ops.downsample(ARRAY, 2), ops.resize(ARRAY, (20, 20), kernel="box")
        assert_type(small, Floats)
        assert_type(large, Floats)
        from_small = ops.downsample_adjoint(small, 2, (16, 16))
        from_large = ops.resize_adjoint(large, (16, 16), kernel="box")
        assert_type(from_small, Floats)
        assert_type(from_large, Floats)
        assert is_array(small, large, from_small, from_large)

    def test_mse(self) -> None:
        value = ops.mse(ARRAY, ARRAY, mask=ARRAY > 0.5)
        assert_type(value, float)
        each = ops.mse(BATCH, BATCH, per_image=True)
        assert_type(each, NDArray[np.float64])
        both = ops.mse(ARRAY, ARRAY, return_gradient=True)
        assert_type(both, tuple[float, Floats])
        of_each = ops.mse(BATCH, BATCH, per_image=True, return_gradient=True)
        assert_type(of_each, tuple[NDArray[np.float64], Floats])
        assert is_float(value, both[0])
        assert is_array(each, both[1], *of_each)

    def test_psnr(self) -> None:
        value = ops.psnr(ARRAY, ARRAY, data_range=1.0)
        assert_type(value, float)
        each = ops.psnr(BATCH, BATCH, data_range=(0, 1), per_image=True)
        assert_type(each, NDArray[np.float64])
        assert is_float(value)
        assert is_array(each)

    def test_ssim(self) -> None:
        value = ops.ssim(ARRAY, ARRAY, data_range=1.0)
        assert_type(value, float)
        each = ops.ssim(BATCH, BATCH, data_range=1.0, per_image=True)
        assert_type(each, NDArray[np.float64])
        both = ops.ssim(ARRAY, ARRAY, data_range=1.0, return_map=True)
        assert_type(both, tuple[float, Floats])
        of_each = ops.ssim(BATCH, BATCH, data_range=1.0, per_image=True, return_map=True)
        assert_type(of_each, tuple[NDArray[np.float64], Floats])
        assert is_float(value, both[0])
        assert is_array(each, both[1], *of_each)

    def test_estimate_noise(self) -> None:
        level = ops.estimate_noise(ARRAY)
        assert_type(level, float)
        assert is_float(level)


class TestTensors:
    def test_total_variation(self) -> None:
        value = ops.total_variation(TENSOR)
        assert_type(value, Tensor)
        both = ops.total_variation(TENSOR, return_gradient=True)
        assert_type(both, tuple[Tensor, Tensor])
        assert is_tensor(value, *both)

    def test_tv_objective(self) -> None:
        value = ops.tv_objective(TENSOR, TENSOR, 0.1, mask=TENSOR)
        assert_type(value, Tensor)
        with_gradient = ops.tv_objective(TENSOR, TENSOR, 0.1, return_gradient=True)
        assert_type(with_gradient, tuple[Tensor, Tensor])
        terms = ops.tv_objective(TENSOR, TENSOR, 0.1, return_terms=True)
        assert_type(terms, tuple[Tensor, Tensor, Tensor])
        everything = ops.tv_objective(TENSOR, TENSOR, 0.1, return_terms=True, return_gradient=True)
        assert_type(everything, tuple[Tensor, Tensor, Tensor, Tensor])
        assert is_tensor(value, *with_gradient, *terms, *everything)

    def test_tv_denoise(self) -> None:
        u = ops.tv_denoise(TENSOR, 0.1)
        assert_type(u, Tensor)
        with_gap = ops.tv_denoise(TENSOR, 0.1, return_gap=True)
        assert_type(with_gap, tuple[Tensor, float])
        with_dual = ops.tv_denoise(TENSOR, 0.1, return_dual=True)
        assert_type(with_dual, tuple[Tensor, Tensor])
        everything = ops.tv_denoise(TENSOR, 0.1, return_dual=True, return_gap=True)
        assert_type(everything, tuple[Tensor, Tensor, float])
        assert is_tensor(u, with_gap[0], *with_dual, *everything[:2])
        assert is_float(with_gap[1], everything[2])

    def test_resample(self) -> None:
        small, large = ops.downsample(TENSOR, 2), ops.resize(TENSOR, (20, 20))
        assert_type(small, Tensor)
        assert_type(large, Tensor)
        from_small = ops.downsample_adjoint(small, 2, (16, 16))
        from_large = ops.resize_adjoint(large, (16, 16))
        assert_type(from_small, Tensor)
        assert_type(from_large, Tensor)
        assert is_tensor(small, large, from_small, from_large)

    def test_metrics(self) -> None:
        value, psnr = ops.mse(TENSOR, TENSOR), ops.psnr(TENSOR, TENSOR, data_range=1.0)
        assert_type(value, Tensor)
        assert_type(psnr, Tensor)
        both = ops.mse(TENSOR, TENSOR, return_gradient=True)
        assert_type(both, tuple[Tensor, Tensor])
        ssim = ops.ssim(TENSOR, TENSOR, data_range=1.0)
        assert_type(ssim, Tensor)
        windows = ops.ssim(TENSOR, TENSOR, data_range=1.0, return_map=True)
        assert_type(windows, tuple[Tensor, Tensor])
        assert is_tensor(value, psnr, *both, ssim, *windows)

    def test_estimate_noise(self) -> None:
        level = ops.estimate_noise(TENSOR)
        assert_type(level, float)
        assert is_float(level)
