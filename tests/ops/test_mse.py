"""Test mean squared errors, and PSNR made of them, against the plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.ops.tensors import close, images, value_and_gradients
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dipfast import ops
from dipfast.ops import _reference as reference
from dipfast.ops.mse import narrow

SINGLE = np.finfo(np.float32)
BACKENDS = ("native", "torch")


@st.composite
def weighted(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Draw two images and a mask that broadcasts to them and may be zero everywhere."""
    a, b = draw(images(count=2))
    shape = [draw(st.sampled_from([size, 1])) for size in a.shape]
    if draw(st.booleans()):
        shape[-2:] = a.shape[-2:]
    if a.shape[-1] > 4:  # else they might be channels, and it would not be clear what is meant
        shape = shape[draw(st.integers(0, 2)) :]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    mask = torch.randint(0, draw(st.integers(1, 3)), shape, generator=generator)
    dtype = draw(st.sampled_from([torch.bool, torch.int64, torch.uint8, a.dtype]))
    return a, b, mask.to(torch.bool if dtype == torch.bool else dtype)


class TestMse:
    @given(images(count=2))
    def test_mse_is_the_definition(self, tensors: list[Tensor]) -> None:
        value, gradients = value_and_gradients(ops.mse, *tensors)
        expected, slopes = value_and_gradients(reference.mse, *tensors)
        close(value, expected)
        for gradient, slope in zip(gradients, slopes):
            close(gradient, slope)
        a, b = (t.numpy() for t in tensors)
        assert ops.mse(a, b) == pytest.approx(value.item(), rel=1e-6)

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_mse_of_what_is_not_finite_is_nan(self, backend: str) -> None:
        a = np.array([0.0, math.inf])
        value = ops.mse(a, np.zeros(2), backend=backend)
        assert isinstance(value, float)
        assert math.isnan(value)

    @given(weighted(), st.booleans())
    def test_masks_are_the_definition(
        self, problem: tuple[Tensor, Tensor, Tensor], per_image: bool
    ) -> None:
        a, b, mask = problem
        plain = mask if mask.is_floating_point() else mask != 0
        expected = reference.mse(a, b, plain, per_image)
        slope = reference.mse_gradient(a, b, plain, per_image)
        alone = mask.numpy()
        for backend in ("native", "torch"):
            options = {"per_image": per_image, "backend": backend, "return_gradient": True}
            value, gradient = ops.mse(a, b, mask=mask, **options)
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7, equal_nan=True)
            values, gradients = ops.mse(a.numpy(), b.numpy(), mask=alone, **options)
            np.testing.assert_allclose(values, expected.numpy(), rtol=1e-6, atol=1e-7)
            if expected.isfinite().all():
                close(gradient, slope)
                close(torch.from_numpy(gradients), slope)
            decibels = ops.psnr(a, b, mask=mask, data_range=2.0, per_image=per_image)
            torch.testing.assert_close(
                decibels, 10 * torch.log10(4 / value), rtol=1e-6, atol=1e-6, equal_nan=True
            )
            decibels = ops.psnr(
                a.numpy(), b.numpy(), mask=alone, data_range=2.0, per_image=per_image
            )
            np.testing.assert_allclose(decibels, 10 * torch.log10(4 / value), rtol=1e-6, atol=1e-6)

    @given(weighted())
    def test_definition_of_weights(self, problem: tuple[Tensor, Tensor, Tensor]) -> None:
        a, b, mask = problem
        mask = mask if mask.is_floating_point() else mask != 0
        a, b, weights = a.double(), b.double(), mask.expand_as(a).double()
        if weights.sum() > 0:
            expected = (weights * (a - b).square()).sum() / weights.sum()
            close(reference.mse(a, b, mask), expected)
        one = reference.mse(a, b, mask, per_image=True)
        if (weights.flatten(1).sum(1) > 0).all():
            close(one, torch.stack([reference.mse(*x) for x in zip(a, b, weights)]))

    @settings(max_examples=50)
    @given(
        st.sampled_from([np.uint8, np.uint16]),
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(5, 90)),
        st.sampled_from([None, "bool", "int64", "float32"]),
        st.booleans(),
        st.integers(0, 99),
    )
    def test_integers_are_exact(
        self,
        kind_a: type,
        kind_b: type,
        shape: tuple[int, int, int],
        marked: str | None,
        per_image: bool,
        seed: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        a, b = (rng.choice([0, np.iinfo(k).max, 7], shape).astype(k) for k in (kind_a, kind_b))
        mask = None if marked is None else rng.integers(0, 3, shape[1:]).astype(marked)
        weights = np.ones(shape[1:]) if mask is None else mask.astype(float)
        if marked in ("bool", "int64"):
            weights = (weights != 0).astype(float)
        weights = np.broadcast_to(weights, shape)
        axes = (1, 2) if per_image else (0, 1, 2)
        total = weights.sum(axes)
        with np.errstate(all="ignore"):
            expected = (weights * (a.astype(float) - b) ** 2).sum(axes) / total
        a, b = a[:, ::-1], b[:, ::-1]
        mask = None if mask is None else mask[::-1]
        value = ops.mse(a, b, mask=mask, per_image=per_image)
        np.testing.assert_allclose(value, expected, rtol=1e-15)
        tensors = (torch.from_numpy(x.copy()) for x in (a, b))
        mask = None if mask is None else torch.from_numpy(mask.copy())
        value = ops.mse(*tensors, mask=mask, per_image=per_image)
        assert value.dtype == torch.float64
        np.testing.assert_allclose(value, expected, rtol=1e-15)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float16, np.bool_])
    def test_other_dtypes(self, dtype: type) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.integers(0, 2, (2, 33, 47)).astype(dtype)
        expected = np.mean((a.astype(float) - b) ** 2)
        value, gradient = ops.mse(a, b, return_gradient=True)
        assert value == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(gradient, (a.astype(float) - b) * 2 / a.size, rtol=1e-6)
        assert ops.mse(a, b.astype(np.float32)) == pytest.approx(expected, rel=1e-6)
        assert ops.mse(torch.from_numpy(a), torch.from_numpy(b)).item() == pytest.approx(
            expected, rel=1e-6
        )

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_what_a_mask_leaves_out(self, backend: str) -> None:
        a, b = np.array([[math.nan, 1.0], [2.0, 3.0]]), np.zeros((2, 2))
        mask = np.array([[False, True], [True, True]])
        assert ops.mse(a, b, mask=mask, backend=backend) == pytest.approx(14 / 3)
        assert math.isnan(ops.mse(a, b, mask=mask.astype(float), backend=backend))
        for nothing in (np.zeros((2, 2), bool), np.zeros(2), np.zeros((1, 1), int)):
            assert math.isnan(ops.mse(b, b, mask=nothing, backend=backend))
            assert math.isnan(ops.psnr(b, b, mask=nothing, data_range=1, backend=backend))
        a, b = torch.from_numpy(a).requires_grad_(), torch.from_numpy(b)
        value = ops.mse(a, b, mask=torch.from_numpy(mask), backend=backend)
        (slope,) = torch.autograd.grad(value, a)
        close(slope, torch.tensor([[0, 2 / 3], [4 / 3, 2]], dtype=torch.float64))

    def test_one_number_for_each_of_a_list(self) -> None:
        a, b = np.arange(4.0), np.zeros(4)
        assert ops.mse(a, b, per_image=True).tolist() == [0, 1, 4, 9]
        mask = np.array([1.0, 2.0, 0.0, 1.0])
        np.testing.assert_equal(ops.mse(a, b, mask=mask, per_image=True), [0, 1, math.nan, 9])
        assert ops.mse(a[2], b[2]) == 4
        assert ops.mse(a[2], b[2], mask=np.float64(3)) == 4

    @pytest.mark.parametrize("threads", [1, 2, 3, 8])
    @pytest.mark.parametrize("kind", [np.float32, np.uint16])
    def test_same_bits_for_every_number_of_threads(self, threads: int, kind: type) -> None:
        rng = np.random.default_rng(0)
        a, b = (1000 * rng.random((2, 3, 257, 511))).astype(kind)
        mask = rng.random((257, 511))

        def run() -> tuple[float, np.ndarray]:
            return ops.mse(a, b, mask=mask, return_gradient=True)

        expected = run()
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            got = run()
        finally:
            torch.set_num_threads(before)
        assert got[0] == expected[0]
        assert np.array_equal(got[1], expected[1])

    def test_memory_that_is_not_aligned(self) -> None:
        a = np.frombuffer(b"\0" + np.arange(6.0).tobytes(), offset=1).reshape(2, 3)
        assert not a.flags.aligned
        assert ops.mse(a, np.zeros((2, 3))) == pytest.approx(55 / 6)
        assert ops.total_variation(a) == 13.0


def exact_mse(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the mean in float64, which has the squares of all numbers of float32."""
    weights = np.ones(a.shape) if mask is None else np.broadcast_to(mask, a.shape).astype(float)
    distance = np.where(weights == 0, 0, a.astype(float) - b.astype(float))
    return float((weights * distance**2).sum() / weights.sum())


def decibels(data_range: float, mse: float) -> float:
    return 20 * (math.log10(data_range) - math.log10(mse) / 2)


@st.composite
def far_apart(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Draw two images of float32, whose differences are of any size, and a mask or none."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.sampled_from([5, 17, 40])))
    middle, spread = draw(st.floats(-149, 127)), draw(st.sampled_from([0, 1, 20, 300]))
    exponents = np.clip(middle + spread * rng.uniform(-1, 1, shape), -149, 127)
    b = (rng.choice([-1, 0, 1], shape) * 2.0**exponents).astype(np.float32)
    a = (rng.choice([-1, 1], shape) * 2.0**exponents).astype(np.float32)
    b[rng.random(shape) < 0.5] = 0
    mask = draw(st.sampled_from([None, "bool", "float32", "float64"]))
    if mask is not None:
        mask = rng.choice([0, 1, 1], shape[1:]).astype(mask)
        mask.flat[0] = 1
    return a, b, mask


class TestRange:
    """Right over the whole range of float32, and where float64 ends, NaN instead of 0 or inf."""

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize(
        "scale", [SINGLE.smallest_subnormal, 1e-38, 1e-30, 1e-23, 1e-19, 1e19, 1e30, SINGLE.max]
    )
    def test_ends_of_single_precision(self, scale: float, backend: str) -> None:
        a = np.full((3, 7), scale, np.float32)
        b = np.zeros_like(a)
        a[0, 0] = 0
        expected = float(a[1, 1]) ** 2 * 20 / 21
        options = {"backend": backend}
        for form in (np.array, torch.tensor):
            value = ops.mse(form(a), form(b), **options)
            assert float(value) == pytest.approx(expected, rel=1e-6)
            for mask in (None, form(np.ones(7, bool)), form(np.ones(7, np.float32))):
                value = ops.psnr(form(a), form(b), mask=mask, data_range=float(a[1, 1]), **options)
                assert float(value) == pytest.approx(10 * math.log10(21 / 20), rel=1e-6)
                each = ops.mse(form(a), form(b), mask=mask, per_image=True, **options)
                np.testing.assert_allclose(each, expected * np.array([0.9, 1.05, 1.05]), rtol=1e-6)

    @settings(max_examples=60)
    @given(far_apart(), st.sampled_from(BACKENDS), st.booleans())
    def test_differences_of_any_size(
        self, problem: tuple[np.ndarray, np.ndarray, np.ndarray | None], backend: str, both: bool
    ) -> None:
        a, b, mask = problem
        expected = exact_mse(a, b, mask)
        marks = None if mask is None else torch.from_numpy(mask)
        x, y = (torch.from_numpy(image).requires_grad_() for image in (a, b))
        options = {"mask": marks, "backend": backend}
        value, slope = ops.mse(x, y, return_gradient=True, **options)
        assert value.dtype == torch.float64
        assert value.item() == pytest.approx(expected, rel=2e-6)
        assert ops.mse(a, b, mask=mask, backend=backend) == pytest.approx(expected, rel=2e-6)
        weights = np.broadcast_to(1.0 if mask is None else mask.astype(float), a.shape)
        distance = weights * (a.astype(float) - b)
        with np.errstate(over="ignore"):
            of_mse = (2 / weights.sum() * distance).astype(np.float32)
            enlarged = (2e9 / weights.sum() * distance).astype(np.float32)
            of_psnr = (-20 / math.log(10) / (distance**2).sum() * distance).astype(np.float32)
        np.testing.assert_allclose(slope, of_mse, rtol=3e-6, atol=1e-44)
        (slope,) = torch.autograd.grad(1e9 * value, x)
        np.testing.assert_allclose(slope, enlarged, rtol=3e-6, atol=1e-44)
        if expected:
            value = ops.psnr(x, y, data_range=2.0, **options)
            assert value.item() == pytest.approx(decibels(2.0, expected), rel=1e-6, abs=1e-5)
            to_a, to_b = torch.autograd.grad(value, (x, y))
            np.testing.assert_allclose(to_a, of_psnr, rtol=3e-6, atol=1e-44)
            assert torch.equal(to_b, -to_a)

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_far_below_the_range(self, backend: str) -> None:
        a, b = torch.full((4, 4), 1e-25), torch.zeros(4, 4)
        value = ops.psnr(a, b, data_range=1.0, backend=backend)
        assert value.item() == pytest.approx(500, abs=1e-5)
        assert ops.psnr(a.numpy(), b.numpy(), data_range=1.0, backend=backend) == value

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_weights_of_any_size(self, backend: str) -> None:
        a, b = torch.full((2, 6), 1e-5), torch.zeros(2, 6)
        b[0] = 1e-5
        for weight in (1e-45, 1e-37, 1e-30, 1e30, 3e38):
            mask = torch.full((6,), weight).requires_grad_()
            value = ops.mse(a, b, mask=mask, backend=backend)
            assert value.item() == pytest.approx(5e-11, rel=1e-6)
            assert ops.mse(
                a.numpy(), b.numpy(), mask=mask.detach().numpy(), backend=backend
            ) == pytest.approx(5e-11, rel=1e-6)
            (slope,) = torch.autograd.grad(value, mask)
            assert slope.dtype == torch.float32
            assert slope.isfinite().all()

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e-160, 1e160, 1e200, 1e300])
    def test_where_double_precision_ends(self, unit: float, backend: str) -> None:
        a = unit * np.array([[0.0, 0.5], [1.0, 0.25]])
        b = unit * np.array([[0.5, 0.5], [0.5, 0.25]])
        for form in (np.array, torch.tensor):
            pair = form(a), form(b)
            assert math.isnan(ops.mse(*pair, backend=backend))
            value = ops.psnr(*pair, data_range=unit, backend=backend)
            assert float(value) == pytest.approx(10 * math.log10(8), rel=1e-12)
            assert math.isnan(ops.psnr(*pair, data_range=1.0, backend=backend))
            marks = form(np.array([[True, False], [False, True]]))
            value = ops.psnr(*pair, data_range=unit, mask=marks, backend=backend)
            assert float(value) == pytest.approx(10 * math.log10(8), rel=1e-12)
            assert ops.mse(pair[0], pair[0], backend=backend) == 0
            assert ops.psnr(pair[0], pair[0], data_range=1.0, backend=backend) == math.inf

    def test_only_images_that_differ_are_lost(self) -> None:
        a, b = np.array([[1.0, 1e300], [1e-200, 0.0], [3.0, 3.0]]), np.zeros((3, 2))
        b[0] = a[0]
        b[2] = 1
        for backend in BACKENDS:
            values = ops.mse(a, b, per_image=True, backend=backend)
            np.testing.assert_equal(values, [0, math.nan, 4])

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_weights_of_zero_hide_differences(self, backend: str) -> None:
        a, b = np.array([[1.0, 5.0], [1e-200, 0.0]]), np.array([[1.0, 2.0], [0.0, 0.0]])
        for form in (np.array, torch.tensor):
            weights = form(np.array([1.0, 0.0]))
            values = ops.mse(form(a), form(b), mask=weights, per_image=True, backend=backend)
            np.testing.assert_equal(values.tolist(), [0, math.nan])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_half_precision(self, dtype: torch.dtype, backend: str) -> None:
        limits = torch.finfo(dtype)
        for size in (limits.smallest_normal / 4, limits.max):
            a = torch.full((5, 3), size, dtype=dtype, requires_grad=True)
            value = ops.mse(a, torch.zeros_like(a), backend=backend)
            assert value.item() == pytest.approx(a[0, 0].item() ** 2, rel=1e-6)
            value = ops.psnr(a, torch.zeros_like(a), data_range=2 * size, backend=backend)
            assert value.item() == pytest.approx(20 * math.log10(2))
            (slope,) = torch.autograd.grad(value, a)
            assert slope.dtype == dtype
            expected = -20 / math.log(10) / (15 * a[0, 0].item())
            torch.testing.assert_close(slope, torch.full((5, 3), expected, dtype=dtype))

    def test_on_an_offset(self) -> None:
        a = np.float32(1e8) + 8 * np.arange(12, dtype=np.float32).reshape(3, 4)
        for form in (np.array, torch.tensor):
            assert ops.mse(form(a), form(a + np.float32(8))) == 64

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("dtype", [np.int64, np.uint64, ">i8"])
    def test_integers_that_would_be_rounded(self, dtype: object, backend: str) -> None:
        a = np.array([[2**60 + 1, 5], [7, 9]]).astype(dtype)
        b = np.array([[2**60, 5], [6, 9]]).astype(dtype)
        mask = np.array([[False, True], [True, True]])
        for form in (np.array, lambda x: torch.from_numpy(x.astype(x.dtype.newbyteorder("=")))):
            pair = form(a), form(b)
            assert math.isnan(ops.mse(*pair, backend=backend))
            assert math.isnan(ops.psnr(*pair, data_range=9, backend=backend))
            assert float(ops.mse(*pair, mask=form(mask), backend=backend)) == pytest.approx(1 / 3)
            assert ops.mse(pair[0][1:], pair[1][1:], backend=backend) == 0.5

    @settings(max_examples=100)
    @given(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.integers(-60, 60),
        st.sampled_from([0.0, 3.0, -1e3]),
        st.sampled_from(["array", "tensor", "masked", "mask"]),
        st.sampled_from(["rows", "columns", "strided", "reversed"]),
        st.sampled_from(BACKENDS),
        st.booleans(),
        st.integers(0, 99),
    )
    def test_in_any_unit(
        self,
        dtype: type,
        exponent: int,
        offset: float,
        kind: str,
        layout: str,
        backend: str,
        per_image: bool,
        seed: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        a, b = (offset + rng.normal(size=(2, 6, 10))).astype(dtype)
        holes = rng.random(a.shape) < 0.3
        holes[:, 0] = False
        if dtype == np.float16:
            exponent = exponent // 20  # float16 has no larger range
        scale = 2.0**exponent

        def measure(scale: float, garbage: float) -> tuple[np.ndarray, np.ndarray]:
            x, y = (scale * image.astype(float) for image in (a, b))
            if kind in ("masked", "mask"):
                x[holes], y[holes] = garbage, -garbage
            x, y = (self.lie(image.astype(dtype), layout) for image in (x, y))
            mask = ~holes if kind == "mask" else None
            if kind == "masked":
                x, y = np.ma.masked_array(x, holes), np.ma.masked_array(y, np.zeros_like(holes))
            if kind == "tensor":
                x, y = (torch.from_numpy(image.copy()) for image in (x, y))
            options = {"mask": mask, "per_image": per_image, "backend": backend}
            mse = ops.mse(x, y, **options)
            psnr = ops.psnr(x, y, data_range=5.0 * scale, **options)
            return np.asarray(mse), np.asarray(psnr)

        with np.errstate(over="ignore"):
            mse, psnr = measure(1.0, 2.0)
            mse_there, psnr_there = measure(scale, rng.choice([math.nan, math.inf, 1e30]))
        assert np.isfinite(psnr).all()
        tight = 0 if dtype == np.float64 else 1e-6
        np.testing.assert_allclose(mse_there, mse * scale**2, rtol=tight, atol=0)
        np.testing.assert_allclose(psnr_there, psnr, rtol=tight, atol=1e5 * tight**2)

    def lie(self, x: np.ndarray, layout: str) -> np.ndarray:
        if layout == "columns":
            return np.asfortranarray(x)
        if layout == "strided":
            return np.repeat(x, 2, axis=1)[:, ::2]
        return x[::-1, ::-1].copy()[::-1, ::-1] if layout == "reversed" else x

    def test_a_value_in_single_precision(self) -> None:
        values = torch.tensor([0, 1e-60, 1e-40, 2.0, 1e60, math.inf, math.nan]).double()
        values[1], values[4] = 1e-60, 1e60
        expected = [0, math.nan, math.nan, 2, math.nan, math.inf, math.nan]
        np.testing.assert_equal(narrow(values).numpy(), np.float32(expected))


class TestKinds:
    """Masked arrays, and what is neither array nor tensor."""

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e300])
    def test_what_is_masked_does_not_count(self, garbage: float, backend: str) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.random((2, 5, 8))
        holes, more = rng.random((2, 5, 8)) < 0.3
        rows = rng.random((5, 1)) < 0.7
        expected = exact_mse(a, b, ~(holes | more))
        there = exact_mse(a, b, ~(holes | more) & rows)
        weights = rng.random(8)
        weighed = exact_mse(a, b, weights * ~(holes | more))
        a[holes], b[more] = garbage, garbage
        a, b = np.ma.masked_array(a, holes), np.ma.masked_array(b, more)
        options = {"backend": backend}
        assert ops.mse(a, b, **options) == pytest.approx(expected, rel=1e-12)
        assert ops.psnr(a, b, data_range=3, **options) == pytest.approx(decibels(3, expected))
        for mask in (rows, rows.astype(np.uint8), 7 * rows):
            assert ops.mse(a, b, mask=mask, **options) == pytest.approx(there, rel=1e-12)
        assert ops.mse(a, b, mask=weights, **options) == pytest.approx(weighed, rel=1e-12)
        _, gradient = ops.mse(a, b, return_gradient=True, **options)
        assert type(gradient) is np.ndarray
        assert (gradient[holes | more] == 0).all()
        assert math.isnan(ops.mse(np.ma.masked_all((3, 4)), np.zeros((3, 4)), **options))
        assert ops.mse(np.ma.masked_array([2.0, 3.0]), np.zeros(2), **options) == 6.5

    def test_masked_bytes(self) -> None:
        a = np.ma.masked_equal(np.array([[0, 10], [20, 0]], np.uint8), 0)
        assert ops.mse(a, np.zeros((2, 2), np.uint8)) == 250
        assert ops.psnr(a, np.full((2, 2), 10, np.uint8)) == pytest.approx(decibels(255, 50))

    def test_what_is_no_image(self) -> None:
        x = np.ones((4, 4), np.float32)
        frame = type("DataFrame", (), {"__module__": "pandas.core.frame"})()
        tensor = torch.ones(4, 4)
        kinds = [
            (x.tolist(), r"got list: pass np.asarray\(NAME\)"),
            (1.0, "got float"),
            (frame, r"got DataFrame: pass NAME.to_numpy\(\)"),
            (Image.fromarray(x.astype(np.uint8)), "got Image: pass np.asarray"),
        ]
        for other, message in kinds:
            calls = {
                "a": lambda other=other: ops.mse(other, x),
                "b": lambda other=other: ops.psnr(x, other, data_range=1),
                "mask": lambda other=other: ops.mse(x, x, mask=other),
            }
            for name, call in calls.items():
                with pytest.raises(
                    TypeError, match=f"{name} must.*{message.replace('NAME', name)}"
                ):
                    call()
        with pytest.raises(TypeError, match=r"a must be a dense tensor.*to_dense\(\)"):
            ops.mse(tensor.to_sparse(), tensor)
        with pytest.raises(TypeError, match="a, b and mask must be all arrays or all tensors"):
            ops.mse(tensor, tensor, mask=True)
        with pytest.raises(ValueError, match=r"mask has 1 masked.*mask.filled\(0\)"):
            ops.mse(x, x, mask=np.ma.masked_equal([1, 0, 1, 1], 0))
        matrix = np.array([[1.0, 2.0]]).view(np.matrix)
        assert ops.mse(matrix, np.zeros((1, 2))) == 2.5

    def test_tensors_of_two_devices(self) -> None:
        with FakeTensorMode(), pytest.raises(ValueError, match="b must be on the device of a, cpu"):
            ops.mse(torch.empty(3), torch.empty(3, device="cuda"))

    def test_a_target_made_in_inference_mode(self) -> None:
        with torch.inference_mode():
            target, mask = torch.zeros(3, 4), torch.ones(4)
        x = torch.ones(3, 4, requires_grad=True)
        ops.psnr(x, target, data_range=1.0).backward()
        ops.mse(x, target, mask=mask).backward()
        assert x.grad is not None
        torch.testing.assert_close(x.grad, torch.full((3, 4), 2 / 12 - 20 / math.log(10) / 12))


class TestLayout:
    @pytest.mark.parametrize("shape", [(9, 7, 3), (7, 7, 3), (3, 7, 7), (2, 9, 7, 3), (2, 3, 9, 7)])
    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_a_mask_of_the_pixels(self, shape: tuple[int, ...], dtype: type, backend: str) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.random((2, *shape))
        last = shape[-1] == 3
        pixels = shape[-3:-1] if last else shape[-2:]
        mask = rng.integers(0, 2, pixels).astype(dtype)
        everywhere = np.broadcast_to(mask[..., None] if last else mask, shape)
        expected = exact_mse(a, b, everywhere)
        for form in (np.array, torch.tensor):
            value = ops.mse(form(a), form(b), mask=form(mask), backend=backend)
            assert float(value) == pytest.approx(expected, rel=1e-12)
            stacked = ops.mse(form(a), form(b), mask=form(everywhere.copy()), backend=backend)
            assert float(stacked) == pytest.approx(expected, rel=1e-12)

    def test_weights_of_channels(self) -> None:
        a, b = np.random.default_rng(0).random((2, 9, 7, 3))
        weights = np.array([0.3, 0.6, 0.1])
        assert ops.mse(a, b, mask=weights) == pytest.approx(exact_mse(a, b, weights))

    @pytest.mark.parametrize(
        ("shape", "pixels"),
        [((3, 3, 3), (3, 3)), ((4, 4, 3), (4, 4)), ((7, 7, 3), (7, 1)), ((7, 9, 16), (7, 9))],
    )
    def test_masks_that_may_be_for_other_axes(
        self, shape: tuple[int, ...], pixels: tuple[int, int]
    ) -> None:
        for form in (np.ones, torch.ones):
            a, mask = form(shape), form(pixels)
            with pytest.raises(
                ValueError, match=r"not clear which axes of a.*mask\[\.\.\., None\]"
            ):
                ops.psnr(a, a, mask=mask, data_range=1.0)
            assert ops.mse(a, 0 * a, mask=mask[..., None]) == 1

    def test_a_picture_is_no_batch(self) -> None:
        for form in (np.ones, torch.ones):
            a = form((9, 7, 3))
            for call in (ops.mse, lambda a, b, **kw: ops.psnr(a, b, data_range=2, **kw)):
                with pytest.raises(
                    ValueError, match=r"may be one picture: pass a\[None\].*9 images"
                ):
                    call(a, a, per_image=True)
                assert call(a[None], a[None], per_image=True).shape == (1,)
                assert call(a[:, None], a[:, None], per_image=True).shape == (9,)
            a = form((3, 7, 9))
            assert ops.mse(a, a, per_image=True).shape == (3,)
            with pytest.raises(ValueError, match="axis of images"):
                ops.mse(form((3, 3, 3)), form((3, 3, 3)), per_image=True)
