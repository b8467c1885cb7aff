"""Test down-sampling and resizing against the original's convolution, Pillow, and one another."""

from __future__ import annotations

import math
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.ops.tensors import MEMORY, close, in_memory
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from dipfast import ops
from dipfast.ops import _torch
from dipfast.ops._torch.resample import _resample_torch

RESIZE = ("lanczos3", "bicubic", "bilinear", "box")
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 70))


def original(x: Tensor, factor: int, phase: float) -> Tensor:
    """Apply the convolution of Deep Image Prior: one dense kernel for all channels."""
    width = 4 * factor + (phase == 0)
    weights = np.zeros((width, width))
    for i in range(width):
        for j in range(width):
            value = 1.0
            for t in ((i - (width - 1) / 2) / factor, (j - (width - 1) / 2) / factor):
                if t != 0:
                    value *= 2 * math.sin(math.pi * t) * math.sin(math.pi * t / 2)
                    value /= math.pi**2 * t**2
            weights[i, j] = value
    weights /= weights.sum()
    planes = x.shape[1]
    convolution = nn.Conv2d(planes, planes, width, stride=factor, dtype=x.dtype)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.bias.zero_()
        for plane in range(planes):
            convolution.weight[plane, plane] = torch.from_numpy(weights)
    padding = (width - 1) // 2 if width % 2 else (width - factor) // 2
    convolution.requires_grad_(False)
    return convolution(nn.ReplicationPad2d(padding)(x))


# Size of the result, kernel, factor, phase, adjoint.
FORMS = [
    ((3, 4), "lanczos2", 2, 0.5, False),
    ((12, 16), "lanczos2", 2, 0.5, True),
    ((4, 9), "lanczos3", 1, 0.5, False),
    ((11, 3), "bicubic", 1, 0.5, True),
]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Draw images (N, C, H, W) of any size from 1x1 up, any dtype and memory format."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 5)), *draw(SIZES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    x = torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
    return in_memory(x, draw(st.sampled_from(MEMORY)))


def factors(draw: st.DrawFn, x: Tensor, phase: float) -> int:
    """Draw a factor with which there is a result."""
    factor = draw(st.integers(1, min(9, *x.shape[-2:])))
    whole = phase == 0.5 and factor % 2
    return factor - 1 if whole and factor == min(x.shape[-2:]) else factor


@st.composite
def downsamplings(draw: st.DrawFn) -> tuple[Tensor, int, float]:
    x = draw(tensors())
    phase = draw(st.sampled_from([0, 0.5]))
    factor = factors(draw, x, phase)
    return (x, factor, phase) if factor else (x, 1, 0)


def inner(a: Tensor, b: Tensor) -> float:
    return (a.detach() * b.detach()).sum().item()


class TestDownsample:
    @settings(max_examples=60)
    @given(downsamplings())
    def test_lanczos2_is_the_original(self, case: tuple[Tensor, int, float]) -> None:
        x, factor, phase = case
        expected = original(x, factor, phase)
        small = ops.downsample(x, factor, phase=phase, channel_axis=1)
        assert small.shape == expected.shape
        torch.testing.assert_close(small, expected, rtol=1e-6, atol=1e-6)
        in_numpy = ops.downsample(x.numpy(), factor, phase=phase, channel_axis=1)
        np.testing.assert_array_equal(in_numpy, small.numpy())

    @settings(max_examples=40)
    @given(downsamplings(), st.integers(0, 2**31))
    def test_adjoint(self, case: tuple[Tensor, int, float], seed: int) -> None:
        x, factor, phase = case
        x = x.double().requires_grad_()
        small = ops.downsample(x, factor, phase=phase, channel_axis=1)
        y = torch.from_numpy(np.random.default_rng(seed).normal(size=small.shape))
        large = ops.downsample_adjoint(y, factor, x.shape[-2:], phase=phase, channel_axis=1)
        assert math.isclose(inner(small, y), inner(x, large), rel_tol=1e-12, abs_tol=1e-10)
        (gradient,) = torch.autograd.grad(small, x, y)
        torch.testing.assert_close(gradient, large, rtol=0, atol=1e-15)

    @pytest.mark.parametrize("kernel", RESIZE)
    def test_other_kernels_resize(self, kernel: str) -> None:
        x = np.random.default_rng(0).random((2, 12, 18))
        small = ops.downsample(x, 3, kernel=kernel)
        np.testing.assert_array_equal(small, ops.resize(x, (4, 6), kernel=kernel))
        large = ops.downsample_adjoint(small, 3, (12, 18), kernel=kernel)
        np.testing.assert_array_equal(large, ops.resize_adjoint(small, (12, 18), kernel=kernel))

    @pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8])
    def test_a_flat_image_stays_flat(self, factor: int) -> None:
        x = torch.full((1, 21, 34), 0.7, dtype=torch.float64)
        for phase in (0, 0.5):
            small = ops.downsample(x, factor, phase=phase)
            torch.testing.assert_close(small, torch.full_like(small, 0.7), rtol=1e-14, atol=0)


class TestResize:
    @settings(max_examples=100)
    @given(SIZES, SIZES, st.sampled_from(RESIZE), st.integers(0, 2**31))
    def test_equals_pillow(
        self, image: tuple[int, int], size: tuple[int, int], kernel: str, seed: int
    ) -> None:
        x = np.random.default_rng(seed).random(image, dtype=np.float32)
        name = {"lanczos3": "LANCZOS"}.get(kernel, kernel.upper())
        expected = Image.fromarray(x).resize(size[::-1], getattr(Image.Resampling, name))
        for dtype in (np.float32, np.float64):
            result = ops.resize(x.astype(dtype), size, kernel=kernel)
            assert result.dtype == dtype
            np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)

    @settings(max_examples=60)
    @given(tensors(), SIZES, st.sampled_from(RESIZE))
    def test_back_ends_and_adjoint(self, x: Tensor, size: tuple[int, int], kernel: str) -> None:
        there = partial(ops.resize, size=size, kernel=kernel, channel_axis=1)
        back = partial(ops.resize_adjoint, size=x.shape[-2:], kernel=kernel, channel_axis=1)
        close(there(x), there(x, backend="torch"))
        wide = x.double().requires_grad_()
        result = there(wide)
        y = torch.rand(result.shape, dtype=torch.float64) - 0.5
        of_result = back(y)
        close(of_result, back(y, backend="torch"))
        assert math.isclose(inner(result, y), inner(wide, of_result), rel_tol=1e-12, abs_tol=1e-10)
        (gradient,) = torch.autograd.grad(result, wide, y)
        torch.testing.assert_close(gradient, of_result, rtol=0, atol=1e-15)

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_arrays_of_every_kind(self, backend: str) -> None:
        x = np.arange(60.0).reshape(6, 10)
        expected = ops.resize(x, (3, 7))
        unaligned = np.frombuffer(b"\0" + x.tobytes(), offset=1).reshape(x.shape)
        transposed, reversed_ = x.T.copy().T, x[::-1].copy()[::-1]
        wide = np.repeat(x, 2, axis=1)[:, ::2]
        for a in (x.astype(int), unaligned, transposed, reversed_, wide, np.asfortranarray(x)):
            result = ops.resize(a, (3, 7), backend=backend)
            np.testing.assert_allclose(result, expected, rtol=1e-14)
        half = ops.resize(x.astype(np.float16), (3, 7), backend=backend)
        assert half.dtype == np.float32
        np.testing.assert_allclose(half, expected, rtol=1e-6)
        assert ops.resize(np.zeros((0, 3, 4, 5)), (2, 2), backend=backend).shape == (0, 3, 2, 2)


class TestTensors:
    @pytest.mark.parametrize("how", MEMORY)
    def test_memory_format_is_kept(self, how: str) -> None:
        x = in_memory(torch.rand(2, 3, 9, 11), how)
        y = ops.resize(x, (5, 20))
        assert y.is_contiguous() != (how == "channels_last")
        assert y.movedim(1, -1).is_contiguous() == (how == "channels_last")
        close(y, ops.resize(x.contiguous(), (5, 20)))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype: torch.dtype) -> None:
        x = torch.rand(3, 8, 8).to(dtype).requires_grad_()
        y = ops.downsample(x, 2)
        assert y.dtype == torch.float32
        close(y, ops.downsample(x.detach().float(), 2))
        y.sum().backward()
        assert x.grad.dtype == dtype

    def test_nan_stays_where_it_is(self) -> None:
        x = np.ones((64, 64), np.float32)
        x[32, 32] = math.nan
        reached = np.isnan(ops.downsample(x, 4))
        assert reached.sum() == 16
        assert reached[6:10, 6:10].all()
        y = np.ones((16, 16), np.float32)
        y[8, 8] = math.nan
        assert np.isnan(ops.downsample_adjoint(y, 4, (64, 64))).sum() == 256
        assert np.isnan(ops.resize(np.full((3, 3), math.inf), (5, 5))).any()

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("form", FORMS)
    def test_plain_torch_loses_no_more_than_the_kernel(self, form: tuple, bad: float) -> None:
        x = torch.rand(2, 3, 6, 8, dtype=torch.float64)
        x[0, 1, 2, 3] = x[1, 0, 5, 7] = bad
        native, plain = _torch.resample(x, *form), _resample_torch(x, *form)
        reached = ~native.isfinite()
        assert torch.equal(plain.isnan(), reached)
        assert torch.equal(reached.flatten(2).any(-1), (~x.isfinite()).flatten(2).any(-1))
        close(plain[~reached], native[~reached])


class TestOperator:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("how", ["contiguous", "channels_last", "strided"])
    def test_opcheck(self, form: tuple, how: str) -> None:
        x = in_memory(torch.rand(2, 3, 6, 8), how).requires_grad_()
        with warnings.catch_warnings():
            # opcheck itself asks non-leaf tensors for their .grad.
            warnings.filterwarnings("ignore", message="The .grad attribute", category=UserWarning)
            torch.library.opcheck(torch.ops.dipfast.resample.default, (x, *form))

    @pytest.mark.parametrize("form", FORMS)
    def test_derivatives(self, form: tuple) -> None:
        x = torch.rand(2, 6, 8, dtype=torch.float64, requires_grad=True)
        assert gradcheck(lambda x: _torch.resample(x, *form), (x,))
        assert gradgradcheck(lambda x: _torch.resample(x, *form).square(), (x,))

    def test_traced_without_a_break(self) -> None:
        def function(x: Tensor) -> Tensor:
            return ops.downsample(ops.resize(x, (24, 16)), 4).square().sum()

        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        x = torch.rand(2, 3, 9, 11, requires_grad=True)
        close(compiled(x), function(x))
        (gradient,) = torch.autograd.grad(compiled(x), x)
        close(gradient, torch.autograd.grad(function(x), x)[0])

    @pytest.mark.parametrize("how", ["contiguous", "channels_last"])
    @pytest.mark.parametrize("form", FORMS)
    def test_other_devices(self, form: tuple, how: str) -> None:
        # Other devices run plain torch, which is tested here on the CPU.
        x = in_memory(torch.rand(2, 3, 6, 8, dtype=torch.float64), how)
        plain = _resample_torch(x, *form)
        native = _torch.resample(x, *form)
        close(plain, native)
        assert plain.stride() == native.stride()

    def test_inference_mode_leaves_nothing_behind(self) -> None:
        with torch.inference_mode():
            ops.resize(torch.rand(7, 13), (5, 3), backend="torch")
        x = torch.rand(7, 13, requires_grad=True)
        ops.resize(x, (5, 3), backend="torch").sum().backward()
        assert x.grad is not None

    @pytest.mark.parametrize("adjoint", [False, True])
    def test_same_bits_for_every_number_of_threads(self, adjoint: bool) -> None:
        x = torch.rand(3, 300, 301)
        small = torch.rand(3, 75, 75)
        before = torch.get_num_threads()
        results = []
        try:
            for threads in (1, 2, 3, 8):
                torch.set_num_threads(threads)
                if adjoint:
                    results.append(ops.downsample_adjoint(small, 4, (300, 301)))
                else:
                    results.append(ops.downsample(x, 4))
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(result, results[0]) for result in results)


def test_a_phase_may_be_a_float() -> None:
    x = torch.rand(1, 1, 8, 8)
    whole, number = (ops.downsample(x, 2, phase=phase) for phase in (0, 0.0))
    assert torch.equal(whole, number)
