"""The metrics against the plain definitions, on random shapes and memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.tensors import close, images, value_and_gradients
from torch import Tensor

from dipfast import ops
from dipfast.ops import reference


@st.composite
def weighted(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Two images and a mask that broadcasts to them, of zeros now and then."""
    a, b = draw(images(count=2))
    shape = [draw(st.sampled_from([size, 1])) for size in a.shape]
    if draw(st.booleans()):
        shape[-2:] = a.shape[-2:]
    shape = shape[draw(st.integers(0, 2)) :]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    mask = torch.randint(0, draw(st.integers(1, 3)), shape, generator=generator)
    dtype = draw(st.sampled_from([torch.bool, torch.int64, torch.uint8, a.dtype]))
    return a, b, mask.to(torch.bool if dtype == torch.bool else dtype)


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

    @given(weighted(), st.booleans())
    def test_masks_are_the_definition(
        self, problem: tuple[Tensor, Tensor, Tensor], per_image: bool
    ) -> None:
        a, b, mask = problem
        plain = mask if mask.is_floating_point() else mask != 0
        expected = reference.weighted_mse(a, b, plain, per_image)
        slope = reference.weighted_mse_gradient(a, b, plain, per_image)
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
        weights = mask.expand_as(a).to(a.dtype)
        if weights.sum() > 0:
            expected = (weights * (a - b).square()).sum() / weights.sum()
            close(reference.weighted_mse(a, b, mask), expected)
        one = reference.weighted_mse(a, b, mask, per_image=True)
        if (weights.flatten(1).sum(1) > 0).all():
            close(one, torch.stack([reference.weighted_mse(*x) for x in zip(a, b, weights)]))

    @settings(max_examples=50)
    @given(
        st.sampled_from([np.uint8, np.uint16]),
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(1, 90)),
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
