"""Test total variation and its objective against the plain definitions, on random shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.tensors import FORMS, close, front, images, value_and_gradients
from torch import Tensor

from dipfast import ops
from dipfast.ops import _reference as reference

forms = st.sampled_from(FORMS)


def options_of(form: tuple[str, float, int], x: Tensor) -> dict[str, object]:
    options = dict(zip(("kind", "epsilon", "spatial_dims"), form))
    return {**options, "channel_axis": front(x, form[2])}


class TestTotalVariation:
    @given(images(depth=True), forms)
    def test_is_the_definition(self, tensors: list[Tensor], form: tuple[str, float, int]) -> None:
        (x,) = tensors
        value, (gradient,) = value_and_gradients(
            lambda x: ops.total_variation(x, **options_of(form, x)), x
        )
        expected, (slope,) = value_and_gradients(lambda x: reference.total_variation(x, *form), x)
        close(value, expected)
        close(gradient, slope)
        close(reference.total_variation_gradient(x, *form), slope)
        if form[0] == "anisotropic":
            assert torch.equal(gradient, slope)

    @given(images(depth=True), forms)
    def test_array_is_tensor(self, tensors: list[Tensor], form: tuple[str, float, int]) -> None:
        (x,) = tensors
        options = {**options_of(form, x), "return_gradient": True}
        expected, slope = ops.total_variation(x, **options)
        for backend in ("native", "torch"):
            value, gradient = ops.total_variation(x.numpy(), backend=backend, **options)
            assert value == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
            close(torch.from_numpy(gradient), slope)

    def test_kinds_meet_where_they_should(self) -> None:
        x = torch.rand(3, 9, 8, dtype=torch.float64)
        isotropic = ops.total_variation(x, kind="isotropic")
        close(ops.total_variation(x, kind="huber"), isotropic)
        assert isotropic < ops.total_variation(x)
        assert ops.total_variation(x, kind="isotropic", epsilon=0.1) < isotropic
        # Along one axis alone there is no difference between them.
        column = x[0, :, :1]
        close(ops.total_variation(column, kind="isotropic"), ops.total_variation(column))
        # One slice, or slices that are all the same, add nothing.
        close(
            ops.total_variation(x[:1].expand(3, 9, 8), kind="isotropic", spatial_dims=3),
            3 * ops.total_variation(x[0], kind="isotropic"),
        )

    @pytest.mark.parametrize(
        ("kind", "epsilon"), [("isotropic", 0.0), ("isotropic", 1e-3), ("huber", 0.0)]
    )
    def test_flat_pixels_have_a_finite_gradient(self, kind: str, epsilon: float) -> None:
        x = torch.full((2, 5, 6), 0.7, requires_grad=True)
        for backend in ("native", "torch"):
            value = ops.total_variation(x, kind=kind, epsilon=epsilon, backend=backend)
            assert value == 0
            assert torch.equal(torch.autograd.grad(value, x)[0], torch.zeros_like(x))

    @given(images())
    def test_arrays_as_they_lie(self, tensors: list[Tensor]) -> None:
        (x,) = tensors
        array = x.numpy()
        options = {"channel_axis": 1}
        value, gradient = ops.total_variation(array, return_gradient=True, **options)
        expected, slope = ops.total_variation(x, return_gradient=True, **options)
        assert isinstance(value, float)
        assert value == pytest.approx(expected.item(), rel=1e-6)
        assert gradient.dtype == array.dtype
        assert (gradient == slope.numpy()).all()
        for backend in ("native", "torch"):
            flipped = ops.total_variation(array[..., ::-1], backend=backend, **options)
            assert isinstance(flipped, float)
            assert flipped == pytest.approx(value, rel=1e-6)

    @pytest.mark.parametrize("ndim", [2, 3, 5])
    def test_any_number_of_leading_axes(self, ndim: int) -> None:
        x = torch.rand(2, 3, 2, 5, 7, dtype=torch.float64)[(0,) * (5 - ndim)]
        close(ops.total_variation(x), reference.total_variation(x))

    def test_channels_last_keeps_its_format(self) -> None:
        x = torch.rand(2, 3, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
        (gradient,) = torch.autograd.grad(ops.total_variation(x), x)
        assert gradient.is_contiguous(memory_format=torch.channels_last)
        x = torch.rand(2, 3, 4, 5, 7).to(memory_format=torch.channels_last_3d).requires_grad_()
        (gradient,) = torch.autograd.grad(ops.total_variation(x, spatial_dims=3), x)
        assert gradient.is_contiguous(memory_format=torch.channels_last_3d)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_single(self, dtype: torch.dtype) -> None:
        x = torch.rand(3, 9, 9).to(dtype).requires_grad_()
        value = ops.total_variation(x)
        assert value.dtype == torch.float32
        assert torch.equal(value, ops.total_variation(x.float()))
        assert torch.autograd.grad(value, x)[0].dtype == dtype

    def test_integers(self) -> None:
        x = np.array([[0, 255], [0, 0]], dtype=np.uint8)
        assert ops.total_variation(x) == 510.0
        assert ops.total_variation(torch.from_numpy(x)).item() == 510.0

    @pytest.mark.parametrize("kind", ["anisotropic", "isotropic", "huber"])
    @pytest.mark.parametrize("backend", ["native", "torch"])
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (40, 40)])
    def test_what_is_not_finite_gives_nan(
        self, shape: tuple[int, int], bad: float, backend: str, kind: str
    ) -> None:
        x = torch.zeros(shape)
        x[-1, -1] = bad
        assert ops.total_variation(x, kind=kind, backend=backend).isnan()
        assert math.isnan(ops.total_variation(x.numpy(), kind=kind, backend=backend))

    def test_empty_is_zero(self) -> None:
        assert ops.total_variation(np.zeros((0, 4, 5))) == 0.0
        assert ops.total_variation(torch.zeros(3, 0, 5)).item() == 0.0

    @pytest.mark.parametrize("kind", ["isotropic", "huber"])
    def test_gradient_of_volumes_in_several_blocks(self, kind: str) -> None:
        x = np.random.default_rng(0).random((40, 50, 70))
        options = {"kind": kind, "spatial_dims": 3, "return_gradient": True}
        expected = ops.total_variation(x, backend="torch", **options)[1]
        np.testing.assert_allclose(ops.total_variation(x, **options)[1], expected, atol=1e-12)

    def test_large_single_precision_sum(self) -> None:
        x = torch.rand(1500, 1500)
        exact = reference.total_variation(x.double()).item()
        assert ops.total_variation(x).item() == pytest.approx(exact, rel=1e-6)


class TestObjective:
    @pytest.mark.parametrize("backend", ["native", "torch"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("mask_dtype", ["bool", "uint8", "int64", "float"])
    @pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 3e38])
    def test_what_stands_in_holes_has_no_influence(
        self, backend: str, dtype: str, mask_dtype: str, garbage: float
    ) -> None:
        rng = np.random.default_rng(0)
        u, y = rng.random((2, 2, 13, 37)).astype(dtype)
        known = rng.random((13, 37)) < 0.7
        mask = known.astype(dtype if mask_dtype == "float" else mask_dtype)
        options = {"mask": mask, "backend": backend, "return_gradient": True}
        value, gradient = ops.tv_objective(u, np.where(known, y, 0), 0.1, **options)
        got, got_gradient = ops.tv_objective(u, np.where(known, y, garbage), 0.1, **options)
        assert got == value
        np.testing.assert_array_equal(got_gradient, gradient)
        tensors = [torch.from_numpy(x) for x in (u, np.where(known, y, garbage).astype(dtype))]
        leaf = tensors[0].requires_grad_()
        loss = ops.tv_objective(leaf, tensors[1], 0.1, mask=torch.from_numpy(mask), backend=backend)
        assert loss.item() == pytest.approx(value, rel=1e-6)
        (slope,) = torch.autograd.grad(loss, leaf)
        np.testing.assert_allclose(slope.numpy(), gradient, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("backend", ["native", "torch"])
    @pytest.mark.parametrize("garbage", [math.nan, math.inf])
    def test_gradients_of_holes(self, backend: str, garbage: float) -> None:
        u, y, mask = torch.rand(3, 5, 6, dtype=torch.float64).unbind()
        y[1, 2], mask[1, 2] = garbage, 0
        leaves = [x.clone().requires_grad_() for x in (u, y, mask)]
        value = ops.tv_objective(*leaves[:2], 0.0, mask=leaves[2], backend=backend)
        slopes = torch.autograd.grad(value, leaves, create_graph=True)
        to_u, to_y, to_mask = (mask**2 * (u - y), mask**2 * (y - u), mask * (u - y) ** 2)
        for slope, expected in zip(slopes, (to_u, to_y, to_mask)):
            close(slope.detach(), expected.where(mask != 0, 0))
        seconds = torch.autograd.grad(torch.stack(slopes).sum(), leaves)
        assert all(second.isfinite().all() for second in seconds)

    @pytest.mark.parametrize("garbage", [math.nan, math.inf, -1.797e308])
    @pytest.mark.parametrize(("dtype", "unit"), [("float32", 1e21), ("float64", 1e-160)])
    @pytest.mark.parametrize("mask_dtype", ["bool", "float64"])
    @pytest.mark.parametrize("channels_last", [False, True])
    def test_holes_beside_squares_without_room(
        self, garbage: float, dtype: str, unit: float, mask_dtype: str, channels_last: bool
    ) -> None:
        rng = np.random.default_rng(0)
        u, y = (unit * rng.random((2, 2, 5, 7))).astype(dtype)
        known = rng.random((5, 7)) < 0.7
        with np.errstate(over="ignore"):
            holed = np.where(known, y, garbage).astype(dtype)
        if channels_last:
            u, y, holed = (np.moveaxis(x, 0, -1).copy() for x in (u, y, holed))
        options = {"mask": known.astype(mask_dtype), "kind": "isotropic", "return_gradient": True}
        options |= {"channel_axis": -1 if channels_last else -3, "return_terms": True}
        *terms, gradient = ops.tv_objective(u, y, unit, **options)
        *got, got_gradient = ops.tv_objective(u, holed, unit, **options)
        assert got == terms
        assert np.isfinite(terms).all()
        assert gradient.any()
        np.testing.assert_array_equal(got_gradient, gradient)

    @given(images(count=3, depth=True), st.sampled_from([0.0, 0.25, 1.5]), st.booleans(), forms)
    def test_is_the_definition(
        self, tensors: list[Tensor], weight: float, masked: bool, form: tuple[str, float, int]
    ) -> None:
        inputs = tensors if masked else tensors[:2]

        def through(backend: str):
            def function(u: Tensor, y: Tensor, m: Tensor | None = None) -> Tensor:
                options = options_of(form, u)
                return ops.tv_objective(u, y, weight, mask=m, backend=backend, **options)

            return function

        value, gradients = value_and_gradients(through("native"), *inputs)
        expected, slopes = value_and_gradients(through("torch"), *inputs)
        close(value, expected)
        for gradient, slope in zip(gradients, slopes):
            close(gradient, slope)

    @given(images(count=2))
    def test_terms_apart(self, tensors: list[Tensor]) -> None:
        u, y = tensors
        value, data, tv = ops.tv_objective(u, y, 0.5, channel_axis=1, return_terms=True)
        close(value, data + 0.5 * tv)
        close(tv, ops.total_variation(u, channel_axis=1))
        close(data, 0.5 * (u - y).square().sum())
        of_arrays = ops.tv_objective(u.numpy(), y.numpy(), 0.5, channel_axis=1, return_terms=True)
        assert of_arrays == pytest.approx((value.item(), data.item(), tv.item()), rel=1e-6)

    @given(images(count=3), st.sampled_from(["auto", "torch"]))
    def test_gradient_on_request(self, tensors: list[Tensor], backend: str) -> None:
        u, y, m = tensors
        _, (slope, *_) = value_and_gradients(
            lambda u: ops.tv_objective(u, y, 0.5, mask=m, channel_axis=1, backend="torch"), u
        )
        options = {"mask": m, "backend": backend, "return_gradient": True, "return_terms": True}
        options["channel_axis"] = 1
        value, data, tv, gradient = ops.tv_objective(u, y, 0.5, **options)
        close(gradient, slope)
        options["mask"] = m.numpy()
        of_arrays = ops.tv_objective(u.numpy(), y.numpy(), 0.5, **options)
        assert all(isinstance(number, float) for number in of_arrays[:3])
        assert of_arrays[:3] == pytest.approx((value.item(), data.item(), tv.item()), rel=1e-6)
        close(torch.from_numpy(of_arrays[3]), slope)
        difference, gradient = ops.mse(u.numpy(), y.numpy(), backend=backend, return_gradient=True)
        assert isinstance(difference, float)
        close(torch.from_numpy(gradient), 2 * (u - y) / u.numel())

    def test_a_target_made_in_inference_mode(self) -> None:
        with torch.inference_mode():
            target, mask = torch.rand(5, 6), torch.rand(5, 6)
        u = torch.rand(5, 6, requires_grad=True)
        (slope,) = torch.autograd.grad(ops.tv_objective(u, target, 0.3, mask=mask), u)
        expected = ops.tv_objective(u, target.clone(), 0.3, mask=mask.clone(), backend="torch")
        close(slope, torch.autograd.grad(expected, u)[0])

    @pytest.mark.parametrize("backend", ["native", "torch"])
    def test_a_sum_of_terms_that_overflows_is_nan(self, backend: str) -> None:
        u, y = np.array([[0.0, 100.0]]), np.zeros((1, 2))
        for form in (np.array, torch.tensor):
            options = {"backend": backend, "return_terms": True}
            value, *terms = ops.tv_objective(form(u), form(y), 1e307, **options)
            assert math.isnan(value)
            assert terms == [5000, 100]

    def test_an_image_made_in_inference_mode(self) -> None:
        with torch.inference_mode():
            u = torch.rand(5, 6)
        y = torch.rand(5, 6, requires_grad=True)
        (slope,) = torch.autograd.grad(ops.tv_objective(u, y, 0.3), y)
        close(slope, y.detach() - u)

    @pytest.mark.parametrize("which", [[1], [2], [1, 2]])
    def test_gradients_of_some(self, which: list[int]) -> None:
        inputs = [torch.rand(2, 3, 5, 7, dtype=torch.float64) for _ in range(3)]
        inputs[2] = inputs[2][:, :1]  # broadcast over channels

        def through(backend: str) -> list[Tensor]:
            leaves = [x.clone().requires_grad_(k in which) for k, x in enumerate(inputs)]
            value = ops.tv_objective(*leaves[:2], 0.3, mask=leaves[2], backend=backend)
            return list(torch.autograd.grad(value, [leaves[k] for k in which]))

        for gradient, slope in zip(through("native"), through("torch")):
            close(gradient, slope)

    def test_masks_of_every_kind_broadcast(self) -> None:
        u, y = torch.rand(2, 3, 5, 7), torch.rand(2, 3, 5, 7)
        known = torch.rand(5, 7) > 0.5
        expected = ops.tv_objective(u, y, 0.1, mask=known.expand_as(u).float())
        for mask in (known, known.to(torch.uint8) * 255, known.to(torch.int64), known.double()):
            assert torch.equal(ops.tv_objective(u, y, 0.1, mask=mask), expected)
            for backend in ("native", "torch"):
                array = ops.tv_objective(
                    u.numpy(), y.numpy(), 0.1, mask=mask.numpy(), backend=backend
                )
                assert array == pytest.approx(expected.item(), rel=1e-6)

    @pytest.mark.parametrize(
        "shape", [(5, 7), (1, 5, 7), (3, 5, 7), (2, 1, 5, 7), (2, 3, 5, 7), (1, 3, 1, 7), (5, 1)]
    )
    @pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
    def test_planes_of_a_mask_are_shared(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        u, y = torch.rand(2, 3, 5, 7), torch.rand(2, 3, 5, 7)
        mask = (torch.rand(shape) > 0.5).to(dtype)
        expected = ops.tv_objective(u, y, 0.1, mask=mask.expand_as(u).contiguous())
        last = torch.channels_last
        for image in (u, u.to(memory_format=last)):
            close(ops.tv_objective(image, y, 0.1, mask=mask), expected)
        array = ops.tv_objective(u.numpy(), y.numpy(), 0.1, mask=mask.numpy())
        assert array == pytest.approx(expected.item(), rel=1e-6)

    def test_mixed_precision_is_promoted(self) -> None:
        u, y = torch.rand(4, 4), torch.rand(4, 4, dtype=torch.float64)
        assert ops.tv_objective(u, y, 0.1).dtype == torch.float64
        assert ops.tv_objective(u.numpy(), y.numpy(), 0.1) == pytest.approx(
            ops.tv_objective(u, y, 0.1).item()
        )
