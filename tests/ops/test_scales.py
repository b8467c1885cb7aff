"""The unit of an image changes nothing: scaled, shifted and turned over, it gives the same.

Scales are powers of two, for which floating point is exact, unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dipfast import ops
from dipfast.ops._reference.total_variation import _norm

KINDS = ("anisotropic", "isotropic", "huber")


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, Callable[[Any], Any], str]:
    """Images (C, H, W) in eighths, what to give them as, and the back end."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(4, 9)), draw(st.integers(5, 20)))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    x = rng.integers(-40, 41, shape).astype(draw(st.sampled_from([np.float32, np.float64]))) / 8
    order = draw(st.sampled_from(["C", "F"]))
    as_given = draw(
        st.sampled_from(
            [
                lambda x: np.asarray(x, order=order),
                lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
                lambda x: x[:, ::-1].copy()[:, ::-1],
                lambda x: x.astype(x.dtype.newbyteorder(">")),
                lambda x: np.ma.masked_array(x, False),
                lambda x: torch.from_numpy(np.array(x, order=order)),
            ]
        )
    )
    return x, as_given, draw(st.sampled_from(["auto", "torch"]))


# 1e-12 to 1e12
exponents = st.integers(-40, 40)


class TestImages:
    @settings(max_examples=60)
    @given(images(), exponents, st.sampled_from([-1.0, 1.0]))
    def test_of_another_unit(
        self, case: tuple[np.ndarray, Any, str], exponent: int, sign: float
    ) -> None:
        x, as_given, backend = case
        scale = x.dtype.type(sign * 2.0**exponent)
        weight = 0.25 * abs(float(scale))
        operations: list[Callable[..., Any]] = [
            partial(ops.resize, size=(6, 7)),
            partial(ops.resize_adjoint, size=(9, 7), kernel="bicubic"),
            partial(ops.downsample, factor=2, phase=0),
            partial(ops.downsample_adjoint, factor=2, size=(2 * x.shape[1], 2 * x.shape[2])),
        ]
        for operation in operations:
            result = operation(as_given(x * scale), backend=backend)
            np.testing.assert_array_equal(result, operation(as_given(x), backend=backend) * scale)
        for kind in ("isotropic", "anisotropic"):
            denoise = partial(ops.tv_denoise, kind=kind, backend=backend, return_gap=True)
            u, gap = denoise(as_given(x), 0.25)
            scaled, same = denoise(as_given(x * scale), weight)
            np.testing.assert_array_equal(scaled, u * scale)
            assert same == gap
            # The noise, and with it the weight, scales to rounding.
            scaled, _ = denoise(as_given(x * scale))
            np.testing.assert_allclose(scaled / scale, denoise(as_given(x))[0], atol=1e-5)

    @settings(max_examples=60)
    @given(images(), exponents, st.sampled_from(KINDS), st.booleans())
    def test_variation(
        self, case: tuple[np.ndarray, Any, str], exponent: int, kind: str, rounded: bool
    ) -> None:
        x, as_given, backend = case
        scale = x.dtype.type(2.0**exponent)
        epsilon = 0.25 if rounded and kind != "anisotropic" else 0.0
        variation = partial(ops.total_variation, kind=kind, return_gradient=True, backend=backend)
        value, gradient = variation(as_given(x), epsilon=epsilon)
        scaled, same = variation(as_given(x * scale), epsilon=epsilon * float(scale))
        assert float(scaled) == float(value) * float(scale)
        np.testing.assert_array_equal(same, gradient)
        # Sign and offset are exact too, since the numbers are eighths.
        assert float(variation(as_given(-x), epsilon=epsilon)[0]) == float(value)
        assert float(variation(as_given(x + 7), epsilon=epsilon)[0]) == float(value)

    @settings(max_examples=60)
    @given(images(), exponents, st.sampled_from(KINDS), st.sampled_from([None, bool, float]))
    def test_objective(
        self, case: tuple[np.ndarray, Any, str], exponent: int, kind: str, mask: Any
    ) -> None:
        u, as_given, backend = case
        scale = u.dtype.type(2.0**exponent)
        y = np.flip(u, 1) + 1
        options: dict[str, Any] = {"kind": kind, "return_terms": True, "return_gradient": True}
        options["backend"] = backend
        if mask is not None:
            options["mask"] = as_given((np.sign(u) > 0).astype(u.dtype))
            if mask is bool:
                options["mask"] = options["mask"] > 0
        *terms, slope = ops.tv_objective(as_given(u), as_given(y), 0.25, **options)
        *scaled, same = ops.tv_objective(
            as_given(u * scale), as_given(y * scale), 0.25 * float(scale), **options
        )
        powers = (float(scale) ** 2, float(scale) ** 2, float(scale))
        for a, b, power in zip(scaled, terms, powers):
            assert float(a) == float(b) * power
        np.testing.assert_array_equal(same, slope * scale)

    @settings(max_examples=30)
    @given(images(), st.floats(1e-12, 1e12), st.floats(-1e3, 1e3))
    def test_any_scale_and_offset(
        self, case: tuple[np.ndarray, Any, str], scale: float, offset: float
    ) -> None:
        x, as_given, backend = case
        moved = ((x.astype(np.float64) + offset) * scale).astype(x.dtype)
        rounding = float(2 * np.finfo(x.dtype).eps) * (abs(offset) + 5)

        def back(result: Any) -> Any:
            return np.asarray(result).astype(np.float64) / scale - offset

        def agree(a: Any, b: Any) -> None:
            # A few roundings of the largest number that occurs.
            np.testing.assert_allclose(a, b, rtol=0, atol=20 * rounding)

        resize = partial(ops.resize, size=(6, 7), backend=backend)
        agree(back(resize(as_given(moved))), resize(as_given(x)))
        downsample = partial(ops.downsample, factor=2, backend=backend)
        agree(back(downsample(as_given(moved))), downsample(as_given(x)))
        denoise = partial(ops.tv_denoise, tol=1e-6, backend=backend)
        u = back(denoise(as_given(moved), 0.25 * scale))
        # The problem is strongly convex: f and u differ by the same at most, and by the gap.
        np.testing.assert_allclose(
            u, denoise(as_given(x), 0.25), atol=0.05 + x.size * 20 * rounding
        )
        value = ops.total_variation(as_given(moved), kind="isotropic", backend=backend)
        expected = float(ops.total_variation(as_given(x), kind="isotropic", backend=backend))
        assert float(value) / scale == pytest.approx(expected, rel=1e-5, abs=x.size * 4 * rounding)


class TestSmallAndLarge:
    """Numbers whose squares float32 or float64 has no room for."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("backend", ["native", "torch"])
    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize(
        ("dtype", "exponents"),
        [(np.float32, (-120, -100, -64, 60, 100, 110)), (np.float64, (-1000, -600, 520, 1000))],
    )
    def test_variation(
        self, dtype: type, exponents: tuple[int, ...], kind: str, backend: str, dims: int
    ) -> None:
        x = np.random.default_rng(0).integers(-40, 41, (4, 9, 11)).astype(dtype) / 8
        for epsilon in (0.0, 0.25) if kind != "anisotropic" else (0.0,):
            form = {"kind": kind, "spatial_dims": dims, "backend": backend}
            variation = partial(ops.total_variation, return_gradient=True, **form)
            value, gradient = variation(x, epsilon=epsilon)
            for exponent in exponents:
                scale = 2.0**exponent
                scaled = x * dtype(scale)
                for given_as in (np.asarray, torch.from_numpy):
                    found, slope = variation(given_as(scaled), epsilon=epsilon * scale)
                    assert float(found) == pytest.approx(value * scale, rel=1e-6)
                    np.testing.assert_allclose(np.asarray(slope), gradient, atol=2e-6)
                leaf = torch.from_numpy(scaled).requires_grad_()
                found = ops.total_variation(leaf, epsilon=epsilon * scale, **form)
                (slope,) = torch.autograd.grad(found, leaf)
                np.testing.assert_allclose(slope.detach().numpy(), gradient, atol=2e-6)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("exponent", [-120, -100, -64, 60, 100])
    @pytest.mark.parametrize("mask", [None, np.bool_, np.float32])
    def test_objective(self, exponent: int, kind: str, mask: Any) -> None:
        rng = np.random.default_rng(0)
        u, y = (rng.integers(-40, 41, (5, 9, 11)).astype(np.float32) / 8 for _ in range(2))
        known = None if mask is None else (rng.random((9, 11)) > 0.5).astype(mask)
        scale = 2.0**exponent
        options = {"kind": kind, "mask": known, "return_terms": True, "return_gradient": True}
        value, data, tv, slope = ops.tv_objective(u, y, 0.25, **options)
        scaled = ops.tv_objective(
            u * np.float32(scale), y * np.float32(scale), 0.25 * scale, **options
        )
        assert scaled[0] == pytest.approx(value * scale**2, rel=1e-6, abs=0)
        assert scaled[1] == pytest.approx(data * scale**2, rel=1e-6, abs=0)
        assert scaled[2] == pytest.approx(tv * scale, rel=1e-6, abs=0)
        np.testing.assert_allclose(scaled[3] / scale, slope, atol=1e-5)
        for backend in ("native", "torch"):
            leaf = torch.from_numpy(u * np.float32(scale)).requires_grad_()
            options = {"kind": kind, "mask": None if mask is None else torch.from_numpy(known)}
            other = torch.from_numpy(y * np.float32(scale))
            found = ops.tv_objective(leaf, other, 0.25 * scale, backend=backend, **options)
            (gradient,) = torch.autograd.grad(found, leaf)
            if backend == "native" or found.isfinite():
                np.testing.assert_allclose(gradient.detach().numpy() / scale, slope, atol=1e-5)
            # float32 has numbers from 1e-38 to 3e38: below, 0 is the nearest.
            if value * scale**2 < 3e38:
                assert found.item() == pytest.approx(value * scale**2, rel=1e-6, abs=1e-38)
            else:
                assert found.isnan()

    def test_norm_of_mixed_numbers(self) -> None:
        d = [torch.tensor([1e-30, 3e30, 1e-45, 0.0, 1.0, 3.0]) for _ in range(2)]
        d[1] = torch.tensor([1e-30, 4e30, 0.0, 0.0, 1e-30, 4.0])
        exact = torch.hypot(*(x.double() for x in d))
        torch.testing.assert_close(_norm(d).double(), exact, rtol=1e-7, atol=0)

    @pytest.mark.parametrize("kind", KINDS)
    def test_sums_that_the_dtype_does_not_have(self, kind: str) -> None:
        x = np.where(np.arange(40).reshape(5, 8) % 2, 3e38, -3e38).astype(np.float32)
        exact = ops.total_variation(x.astype(np.float64), kind=kind)
        assert ops.total_variation(x, kind=kind) == pytest.approx(exact)
        assert ops.total_variation(torch.from_numpy(x), kind=kind).isnan()
        assert ops.total_variation(torch.from_numpy(x), kind=kind, backend="torch").isnan()
        huge = np.where(np.arange(40).reshape(5, 8) % 2, 1e308, -1e308)
        assert np.isnan(ops.total_variation(huge, kind=kind))

    @pytest.mark.parametrize("backend", ["native", "torch"])
    @pytest.mark.parametrize("scale", [2.0**-126, 2.0**-100, 2.0**100, 2.0**124])
    def test_denoising(self, scale: float, backend: str) -> None:
        rng = np.random.default_rng(0)
        x = rng.integers(-40, 41, (2, 12, 13)).astype(np.float32) / 8
        for weight in (0.5, None):
            options = {"backend": backend, "return_gap": True}
            u, gap = ops.tv_denoise(x, weight, **options)
            scaled = x * np.float32(scale)
            found, same = ops.tv_denoise(scaled, weight and weight * scale, **options)
            np.testing.assert_allclose(found / np.float32(scale), u, atol=1e-5)
            assert same == pytest.approx(gap, rel=0.2)
        largest = np.where(x > 0, np.finfo(np.float32).max, -np.finfo(np.float32).max)
        assert np.isfinite(ops.tv_denoise(largest, 1e38, backend=backend)).all()

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_an_offset_takes_its_digits_and_no_more(self, backend: str) -> None:
        rng = np.random.default_rng(0)
        x = rng.integers(-40, 41, (12, 13)).astype(np.float32) / 8
        u = ops.tv_denoise(x, 0.5, tol=1e-6, backend=backend)
        moved = ops.tv_denoise(x + np.float32(2**20), 0.5, tol=1e-6, backend=backend)
        np.testing.assert_allclose(moved - np.float32(2**20), u, atol=2**-4 + 1e-3)

    def test_resampling_overflows_to_what_is_not_finite(self) -> None:
        largest = np.finfo(np.float32).max
        x = np.where(np.arange(80).reshape(8, 10) % 3, largest, -largest).astype(np.float32)
        exact = ops.resize(x.astype(np.float64), (5, 6))
        found = ops.resize(x, (5, 6))
        with np.errstate(over="ignore"):
            good = np.isfinite(found)
            assert not good[np.abs(exact) > 1.01 * largest].any()
        np.testing.assert_allclose(found[good], exact[good], rtol=1e-5, atol=1e-5 * largest)
        quarter = ops.resize(x / 4, (5, 6))
        np.testing.assert_allclose(quarter, exact / 4, rtol=1e-5, atol=1e-6 * largest)
